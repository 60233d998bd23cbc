import type { ResolvedRecipe } from '../recipe/index.ts';
import { type LoadedPart, weightBytes } from './model-memory.ts';
import { type MemoryNeed, requireMemory } from './require-memory.ts';

/** AdamW's two moments, each as large as the weights. */
const MOMENTS = 2;

/**
 * Refuses a training whose student cannot fit: weights, gradients, AdamW's moments and the moving average, all f32.
 *
 * @throws PotstillError `ERR_MEMORY`
 */
export async function requireTrainingMemory({ student: { model }, training }: ResolvedRecipe): Promise<void> {
  const bytes = await weightBytes(model, 'unet');
  const needs: MemoryNeed[] = [
    { what: 'weights', bytes },
    { what: 'gradients', bytes },
    { what: 'optimizer', bytes: MOMENTS * bytes },
    ...(training.ema === undefined ? [] : [{ what: 'moving average', bytes }]),
  ];
  const without = training.ema === undefined ? '' : 'leave out training.ema, ';
  await requireMemory(needs, {
    where: `student ${model}`,
    remedy: `Close other programs, ${without}take a smaller student or a machine with more memory; activations come on top (less with a smaller training.batch or training.recompute).`,
  });
}

/**
 * Refuses to load parts of a model that cannot be in memory together.
 *
 * @throws PotstillError `ERR_MEMORY`
 */
export async function requireModelMemory(model: string, parts: readonly LoadedPart[]): Promise<void> {
  const needs = await Promise.all(parts.map(async (what) => ({ what, bytes: await weightBytes(model, what) })));
  await requireMemory(needs, {
    where: model,
    remedy: 'Close other programs, or use a smaller model or a machine with more memory.',
  });
}
