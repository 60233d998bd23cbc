import { rename, rm } from 'node:fs/promises';
import { canonicalJson, type Json } from '../cache/canonical.ts';
import type { Lora } from '../native/index.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import type { TrainerParts } from './trainer.ts';

/**
 * Writes the result of a run: a UNet's folder or a LoRA's file, of the moving average of the weights where there is one.
 *
 * @param path where; what an earlier part of the run left there is replaced
 */
export async function saveStudent(
  path: string,
  recipe: ResolvedRecipe,
  { student, lora, ema }: Pick<TrainerParts, 'student' | 'lora' | 'ema'>,
): Promise<void> {
  ema?.swap();
  try {
    if (lora === undefined) await student.unet.saveFolder(path, recipe.training.save.dtype);
    else await replaceLora(path, recipe, lora);
  } finally {
    ema?.swap();
  }
}

/** Written under another name first: a reader finds the old file or the new one, whole. */
async function replaceLora(path: string, recipe: ResolvedRecipe, lora: Lora): Promise<void> {
  const { dtype } = recipe.training.save;
  const written = `${path}.writing`;
  await rm(written, { force: true });
  await lora.save(written, {
    target: { dialect: 'kohya', dtype, title: recipe.name },
    metadata: trainingMetadata(recipe),
    details: canonicalJson(provenance(recipe)),
  });
  await rename(written, path);
}

/** What kohya's and others' tools show of a training, under kohya's names. */
function trainingMetadata({ name, seed, training, student }: ResolvedRecipe): Record<string, string> {
  const { steps, batch, accumulation, optimizer, schedule } = training;
  return {
    ss_output_name: name,
    ss_training_comment: 'trained with potstill',
    ss_sd_model_name: lastPart(student.model),
    ss_seed: String(seed),
    ss_max_train_steps: String(steps),
    ss_steps: String(steps),
    ss_total_batch_size: String(batch),
    ss_gradient_accumulation_steps: String(accumulation),
    ss_learning_rate: String(optimizer.lr),
    ss_unet_lr: String(optimizer.lr),
    ss_optimizer: optimizer.id,
    ss_lr_scheduler: schedule.id,
  };
}

/** How it came to be; of paths the last part alone, for a file is passed on. */
function provenance({ name, seed, student, teachers, method, training, cache }: ResolvedRecipe): Json {
  const { steps, batch, accumulation, optimizer, schedule, clip, ema, loss } = training;
  const plain = {
    ...{ recipe: name, seed, method, timesteps: cache.timesteps },
    student: { ...student, model: lastPart(student.model) },
    teachers: teachers.map(({ id, model, weight }) => ({ id, model: lastPart(model), weight })),
    training: { steps, batch, accumulation, optimizer, schedule, clip, ema, loss },
  };
  return JSON.parse(JSON.stringify(plain)) as Json;
}

function lastPart(path: string): string {
  return path.split(/[\\/]/).findLast((part) => part !== '') ?? path;
}
