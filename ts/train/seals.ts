import { createHash } from 'node:crypto';
import { canonicalJson, type Json } from '../cache/canonical.ts';
import { componentName, SEAL_FILE } from '../cache/component.ts';
import type { OpenedCache } from '../cache/index.ts';
import { inspectUnet } from '../cache/inspect.ts';
import { placeIn, readDocument } from '../cache/place.ts';
import { digestAdapter } from '../cache/plan/adapter-digest.ts';
import { type DigestOptions, digestComponent } from '../cache/plan/model-digest.ts';
import { inputError } from '../errors.ts';
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
  const digests = await Promise.all(names.map(async (name) => [name, sha256(await readSeal(dir, name))] as const));
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
    ...Object.fromEntries(digests),
    data: digestOf(data),
    student: digestOf(student),
  };
}

async function readSeal(cache: string, component: string): Promise<string> {
  const seal = await readDocument(cache, `${component}/${SEAL_FILE}`);
  if (seal !== undefined) return seal;
  throw inputError('ERR_CACHE_UNSEALED', 'has lost its seal while it was opened', {
    where: placeIn(cache, component),
    remedy: 'Leave the cache alone while it is trained on, and run the command again.',
  });
}

function digestOf(value: object): string {
  return sha256(canonicalJson(value as Json));
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
