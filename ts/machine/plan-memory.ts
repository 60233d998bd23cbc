import { trainsText } from '../adapter/index.ts';
import type { Device, Precision, QuantFormat } from '../native/index.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { needsPrior, needsTeachers } from '../recipe/parts.ts';
import { trainedAdapters } from '../recipe/student.ts';
import { adapterBytes, type LoadedPart, unetBytes, weightBytes } from './model-memory.ts';
import { type MemoryNeed, requireMemory } from './require-memory.ts';

/** What optimizers keep, each part as large as the weights; of Adafactor a row and a column. */
const KEPT: Readonly<Record<ResolvedRecipe['training']['optimizer']['id'], number>> = {
  adamw: 2,
  lion: 1,
  prodigy: 4,
  adafactor: 0,
};

/**
 * Refuses a training whose student cannot fit: its weights, those of a LoRA beside it, and of what is trained the gradients,
 * the optimizer's state and the moving average, all f32.
 *
 * @throws PotstillError `ERR_MEMORY`
 */
export async function requireTrainingMemory(recipe: ResolvedRecipe, device: Device = 'cpu'): Promise<void> {
  const { student, training } = recipe;
  const isWhole = student.train === 'unet';
  const without = isWhole ? `${training.ema === undefined ? '' : 'leave out training.ema, '}train a LoRA, ` : '';
  await requireMemory(await trainingNeeds(recipe), {
    device,
    where: `student ${student.model}`,
    remedy: `Close other programs, ${without}take a smaller student or a machine with more memory; activations come on top (less with a smaller training.batch or training.recompute). See \`potstill doctor --estimate RECIPE\`.`,
  });
}

/** What training keeps from its first step to its last, and the gradients. */
export async function trainingNeeds(recipe: ResolvedRecipe): Promise<readonly MemoryNeed[]> {
  const { student, training } = recipe;
  const { model, train } = student;
  const weights = await weightBytes(model, 'unet');
  let trained = train === 'unet' ? weights : 0;
  for (const { lora } of trainedAdapters(train)) trained += await adapterBytes(model, lora);
  const beside: MemoryNeed[] =
    train === 'unet' && needsPrior(recipe) ? [{ what: 'the student as it was', bytes: weights }] : [];
  if (await trainsText(student)) {
    beside.push({ what: 'text encoders', bytes: await weightBytes(student.encoders ?? model, 'text') });
  }
  for (const teacher of needsTeachers(recipe) ? recipe.teachers : []) {
    beside.push({ what: `teacher ${teacher.id}`, bytes: await unetBytes(teacher.model, teacher.storage) });
  }
  return [
    { what: 'weights', bytes: weights },
    ...(train === 'unet' ? [] : [{ what: 'LoRA', bytes: trained }]),
    { what: 'gradients', bytes: trained },
    { what: 'optimizer', bytes: KEPT[training.optimizer.id] * trained },
    ...(training.ema === undefined ? [] : [{ what: 'moving average', bytes: trained }]),
    ...beside,
  ];
}

/** A part of a model that is to be in memory. */
export interface ModelPart {
  readonly model: string;
  readonly part: LoadedPart;
  /** What it is called in messages, such as `base`; the part's name unless given. */
  readonly what?: string | undefined;
  /** What its matrices are kept in; f32 unless given. Codes are for a UNet's. */
  readonly dtype?: Precision | QuantFormat | undefined;
}

/**
 * Refuses to load parts of models that cannot be in memory together.
 *
 * @throws PotstillError `ERR_MEMORY`
 */
export async function requireModelMemory(parts: readonly ModelPart[], device: Device = 'cpu'): Promise<void> {
  const needs = await Promise.all(
    parts.map(async ({ model, part, what = part, dtype }) => {
      return { what, bytes: await (part === 'unet' ? unetBytes(model, dtype) : weightBytes(model, part)) };
    }),
  );
  await requireMemory(needs, {
    device,
    where: [...new Set(parts.map(({ model }) => model))].join(', '),
    remedy: 'Close other programs, or use a smaller model or a machine with more memory.',
  });
}
