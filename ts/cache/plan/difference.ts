import type { Json } from '../canonical.ts';

/** One place where two plans part. */
export interface Difference {
  /** Keys and indices from the top, `unet.weights.model.safetensors` for example. */
  readonly path: string;
  /** What the first plan holds there; undefined when it holds nothing. */
  readonly found: Json | undefined;
  /** What the second one holds. */
  readonly wanted: Json | undefined;
}

/** What a reader calls the parts of a plan, by the beginning of their path; the first that fits is taken. */
const NAMES: readonly (readonly [prefix: string, name: string])[] = [
  ['version', 'version of the cache format'],
  ['dtype', 'dtype of the stored numbers'],
  ['vae.weights', 'VAE weights digest'],
  ['vae', 'VAE configuration'],
  ['views', 'images, sizes or crops'],
  ['encoders', 'text encoder or tokenizer digest'],
  ['captions', 'captions'],
  ['unet.weights', 'teacher weights digest'],
  ['unet', 'teacher configuration'],
  ['prediction', 'prediction type of the teacher'],
  ['schedule', 'noise schedule of the teacher'],
  ['adapters', 'adapters of the teacher'],
  ['storage', "storage of the teacher's weights"],
  ['fields', 'predictions that are kept (cond, uncond)'],
  ['noise.generator', 'noise generator'],
  ['noise.baseSeed', 'base seed'],
  ['given', 'draws that were imported'],
  ['draws', 'draws per view'],
  ['timesteps', 'range of timesteps'],
  ['latents', 'latents that the predictions were made on'],
  ['text', 'text that the predictions were made with'],
  ['samples', 'pairs of image and caption'],
  ['timeIds', 'size conditioning'],
];

/** What a reader calls the part of a plan at this path. */
export function nameOfPart(path: string): string {
  return NAMES.find(([prefix]) => path === prefix || path.startsWith(`${prefix}.`))?.[1] ?? path;
}

/** Where two JSON values part, in the order of the keys, at most `limit` places. */
export function differences(found: Json | undefined, wanted: Json | undefined, limit = 64): Difference[] {
  const places: Difference[] = [];
  compare(found, wanted, '', places, limit);
  return places;
}

function compare(
  found: Json | undefined,
  wanted: Json | undefined,
  path: string,
  places: Difference[],
  limit: number,
): void {
  if (places.length >= limit || Object.is(found, wanted)) return;
  if (!isComposite(found) || !isComposite(wanted) || Array.isArray(found) !== Array.isArray(wanted)) {
    places.push({ path, found, wanted });
    return;
  }
  const before = found as Readonly<Record<string, Json | undefined>>;
  const after = wanted as Readonly<Record<string, Json | undefined>>;
  for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
    compare(before[key], after[key], path === '' ? key : `${path}.${key}`, places, limit);
  }
}

function isComposite(value: Json | undefined): value is Exclude<Json, null | boolean | number | string> {
  return typeof value === 'object' && value !== null;
}
