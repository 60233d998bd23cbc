import { type Engine, noise, type Shape, type Tensor } from '../native/index.ts';

/** Pixels to a latent. */
export const LATENT = 8;

/** Weights take this seed and those after it: one for each parameter, in the order of the names. */
export const WEIGHTS_SEED = 1000n;

/** torch's `randn` of a seed. */
export function gaussian(engine: Engine, seed: bigint, shape: Shape): Tensor {
  return noise(engine, { generator: 'torch', seeds: [seed], shape }).reshape(shape);
}

/** Seconds until what was enqueued, and everything before it, is computed. */
export async function timed(engine: Engine, enqueue: () => void | Promise<void>): Promise<number> {
  const begun = performance.now();
  await enqueue();
  await engine.settled();
  return (performance.now() - begun) / 1000;
}
