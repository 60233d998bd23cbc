import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { canonicalJson, type Json } from '../cache/canonical.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { textRate, withLoraFiles } from '../recipe/student.ts';
import type { NamedLora, TrainerParts } from './trainer.ts';

/**
 * Writes the result of a run: a UNet's folder, a LoRA's file, or a folder of several by their names; of the moving average of the weights where there is one.
 *
 * @param path where; what an earlier part of the run left there is replaced
 */
export async function saveStudent(
  path: string,
  recipe: ResolvedRecipe,
  { student, loras, ema }: Pick<TrainerParts, 'student' | 'loras' | 'ema'>,
): Promise<void> {
  ema?.swap();
  try {
    if (loras.length === 0) await student.unet.saveFolder(path, recipe.training.save.dtype);
    for (const named of loras) {
      const { name } = named;
      if (name !== undefined) await mkdir(path, { recursive: true });
      await replaceLora(name === undefined ? path : join(path, `${name}.safetensors`), recipe, named);
    }
  } finally {
    ema?.swap();
  }
}

/** Written under another name first: a reader finds the old file or the new one, whole. */
async function replaceLora(path: string, recipe: ResolvedRecipe, { name, lora, text }: NamedLora): Promise<void> {
  const { dtype } = recipe.training.save;
  const written = `${path}.writing`;
  await rm(written, { force: true });
  const about = {
    target: { dialect: 'kohya' as const, dtype, title: name === undefined ? recipe.name : `${recipe.name} (${name})` },
    metadata: trainingMetadata(recipe, text !== undefined),
    details: canonicalJson(provenance(recipe)),
  };
  await lora.save(written, about, text);
  await rename(written, path);
}

/** What kohya's and others' tools show of a training, under kohya's names. */
function trainingMetadata(
  { name, seed, training, student }: ResolvedRecipe,
  withText: boolean,
): Record<string, string> {
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
    ...(withText ? { ss_text_encoder_lr: String(optimizer.lr * (textRate(student.train) ?? 1)) } : {}),
    ss_optimizer: optimizer.id,
    ss_lr_scheduler: schedule.id,
  };
}

/** How it came to be; of paths the last part alone, for a file is passed on. */
function provenance({ name, seed, student, teachers, method, training, cache }: ResolvedRecipe): Json {
  const { save: _save, checkpoint: _checkpoint, validation: _validation, ...settings } = training;
  const plain = {
    ...{ recipe: name, seed, method, timesteps: cache.timesteps },
    student: {
      train: withoutFolders(student.train),
      model: lastPart(student.model),
      encoders: student.encoders && lastPart(student.encoders),
      vae: student.vae && lastPart(student.vae),
    },
    teachers: teachers.map(({ id, model, weight, lora }) => ({
      ...{ id, model: lastPart(model), weight },
      lora: lora.map(({ file, scale }) => ({ file: lastPart(file), scale })),
    })),
    training: settings,
  };
  return JSON.parse(JSON.stringify(plain)) as Json;
}

function withoutFolders(train: ResolvedRecipe['student']['train']): unknown {
  return withLoraFiles(train, lastPart);
}

function lastPart(path: string): string {
  return path.split(/[\\/]/).findLast((part) => part !== '') ?? path;
}
