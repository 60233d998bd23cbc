import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { canonicalJson, type Json } from '../cache/canonical.ts';
import { componentName, SEAL_FILE } from '../cache/component.ts';
import type { OpenedCache } from '../cache/index.ts';
import { inspectUnet } from '../cache/inspect.ts';
import { digestAdapter } from '../cache/plan/adapter-digest.ts';
import { type DigestOptions, digestComponent } from '../cache/plan/model-digest.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { trainedAdapters } from '../recipe/student.ts';

/**
 * SHA-256, in hex, of what a run is trained on: the seal of each component of the cache (`latents`, `text`,
 * `teachers/<id>`), `data` (which samples, in which order, and how they are used) and `student` (the weights that
 * training starts from). They name contents, wherever these lie.
 */
export type Seals = Readonly<Record<string, string>>;

/** Seals that checkpoints of the first version lack. */
export const LATER_SEALS: ReadonlySet<string> = new Set(['data', 'student']);

/** The seals of a complete cache and of the student's model. */
export async function readSeals(
  { plans, samples }: OpenedCache,
  { model, train }: ResolvedRecipe['student'],
  options: DigestOptions,
): Promise<Seals> {
  const { dir, latents, text, teachers } = plans;
  const names = [latents, text, ...teachers.map(({ plan }) => plan)].map(componentName);
  const digests = names.map(async (name) => [name, sha256(await readFile(join(dir, name, SEAL_FILE)))] as const);
  const { files, prediction, alphasCumprod } = await inspectUnet(model);
  const lora: Record<string, string> = {};
  for (const { name, lora: file } of trainedAdapters(train)) {
    if (typeof file !== 'string') continue;
    lora[name === undefined ? 'lora' : `loras.${name}`] = await digestAdapter(file, options);
  }
  const student = { ...(await digestComponent(files, options)), prediction, alphasCumprod, ...lora };
  const data = samples.map(({ key, repeats, captionDropout, heldOut, mask }) => ({
    ...{ key, repeats, captionDropout, heldOut },
    ...(mask === undefined ? {} : { mask: mask.digest }),
  }));
  return {
    ...Object.fromEntries(await Promise.all(digests)),
    data: digestOf(data),
    student: digestOf(student),
  };
}

function digestOf(value: object): string {
  return sha256(canonicalJson(value as Json));
}

function sha256(bytes: string | Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
