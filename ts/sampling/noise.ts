import { createHash } from 'node:crypto';
import { type Engine, noise, type Shape, type Tensor } from '../native/index.ts';

/** Unit `philox` noise, a row for each seed: [seeds, …shape]. */
export function unitNoise(engine: Engine, seeds: readonly bigint[], shape: Shape): Tensor {
  return noise(engine, { generator: 'philox', seeds, shape });
}

/**
 * The fresh noise of a stochastic sampler's step: unit `philox` noise of the seed that is the first eight bytes,
 * big-endian, of SHA-256 of `seed|step|i`. So it depends on the picture's seed and the step alone, as the first noise does.
 */
export function stepNoise(engine: Engine, seeds: readonly bigint[], shape: Shape): (step: number) => Tensor {
  return (step) =>
    unitNoise(
      engine,
      seeds.map((seed) => createHash('sha256').update(`${seed}|step|${step}`).digest().readBigUInt64BE(0)),
      shape,
    );
}
