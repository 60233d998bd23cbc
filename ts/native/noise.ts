import { inputError } from '../errors.ts';
import type { Engine } from './engine.ts';
import { elements, type Shape } from './shape.ts';
import { enqueueTensor, type Tensor } from './tensor.ts';

/** `torch`: torch's CPU `randn`; `philox`: potstill's own, the same bits on every device. */
export type NoiseGenerator = 'torch' | 'philox';

/** Most values of one noise tensor: 8 GiB of f32, more than any batch of latents. */
const MAX_VALUES = 2 ** 31;

/** Seeds are unsigned 64-bit numbers. */
const SEEDS = 2n ** 64n;

/** Standard normal noise, one row of `shape` for each seed: [seeds, …shape]. A row depends on its own seed alone. */
export function noise(
  engine: Engine,
  options: {
    readonly generator: NoiseGenerator;
    readonly seeds: BigUint64Array | readonly bigint[];
    readonly shape: Shape;
  },
): Tensor {
  const { generator, seeds, shape } = options;
  const full = [seeds.length, ...shape];
  if (!full.every((size) => Number.isSafeInteger(size) && size > 0) || elements(full) > MAX_VALUES) {
    throw inputError('ERR_TENSOR_SHAPE', `noise cannot have the shape [${full.join(', ')}]`, {
      remedy: `Sizes are positive whole numbers with a product of at most ${MAX_VALUES}.`,
    });
  }
  const negative = seeds.find((seed) => seed < 0n || seed >= SEEDS);
  if (negative !== undefined) {
    throw inputError('ERR_NOISE_SEED', `${negative} is no seed`, { remedy: 'Seeds are 0 to 2^64 − 1.' });
  }
  const words = seeds instanceof BigUint64Array ? seeds : BigUint64Array.from(seeds);
  return enqueueTensor(engine, full, (id) => engine.native.noise(id, generator, words, [...shape]));
}
