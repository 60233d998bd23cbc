import { z } from 'zod';
import type { Tensor } from '../native/index.ts';
import type { Batch } from './define.ts';
import type { Rng } from './rng.ts';

/** No published teacher is sampled beyond this guidance; a larger number in a recipe is a slip. */
const MAX_GUIDANCE = 100;

const scale = z.number().min(0).max(MAX_GUIDANCE);

/** Guidance in a recipe: a number, or the range [low, high] that each row draws its own from. */
export const guidanceOption = z.union([
  scale,
  z.tuple([scale, scale]).refine(([low, high]) => low <= high, 'the range must be [low, high]'),
]);

/** The guidance of every row, [B, 1, 1, 1]: the same for the same seed and step. */
export function guidanceOfRows(guidance: z.output<typeof guidanceOption>, batch: Batch, rng: Rng): Tensor {
  const [low, high] = typeof guidance === 'number' ? [guidance, guidance] : guidance;
  return batch.perRow(rng.uniform('guidance', batch.size).map((u) => low + u * (high - low)));
}
