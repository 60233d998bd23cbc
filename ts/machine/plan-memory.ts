import type { ResolvedRecipe } from '../recipe/index.ts';
import { type LoadedPart, weightBytes } from './model-memory.ts';
import { type MemoryNeed, requireMemory } from './require-memory.ts';

/** AdamW's two moments, each as large as the weights. */
const MOMENTS = 2;

/**
 * Refuses a training whose student cannot fit: weights, gradients, AdamW's moments and the moving average, all f32. Of a
 * LoRA the weights beside it are by far the most: what it adds itself is not counted.
 *
 * @throws PotstillError `ERR_MEMORY`
 */
export async function requireTrainingMemory({ student, training }: ResolvedRecipe): Promise<void> {
  const { model } = student;
  const bytes = await weightBytes(model, 'unet');
  const state: MemoryNeed[] = [
    { what: 'gradients', bytes },
    { what: 'optimizer', bytes: MOMENTS * bytes },
    ...(training.ema === undefined ? [] : [{ what: 'moving average', bytes }]),
  ];
  const isWhole = student.train === 'unet';
  const without = isWhole ? `${training.ema === undefined ? '' : 'leave out training.ema, '}train a LoRA, ` : '';
  await requireMemory([{ what: 'weights', bytes }, ...(isWhole ? state : [])], {
    where: `student ${model}`,
    remedy: `Close other programs, ${without}take a smaller student or a machine with more memory; activations come on top (less with a smaller training.batch or training.recompute).`,
  });
}

/** A part of a model that is to be in memory. */
export interface ModelPart {
  readonly model: string;
  readonly part: LoadedPart;
  /** What it is called in messages, such as `base`; the part's name unless given. */
  readonly what?: string | undefined;
}

/**
 * Refuses to load parts of models that cannot be in memory together.
 *
 * @throws PotstillError `ERR_MEMORY`
 */
export async function requireModelMemory(parts: readonly ModelPart[]): Promise<void> {
  const needs = await Promise.all(
    parts.map(async ({ model, part, what = part }) => ({ what, bytes: await weightBytes(model, part) })),
  );
  await requireMemory(needs, {
    where: [...new Set(parts.map(({ model }) => model))].join(', '),
    remedy: 'Close other programs, or use a smaller model or a machine with more memory.',
  });
}
