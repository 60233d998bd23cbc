import { join, resolve } from 'node:path';
import { listImages } from './data/walk.ts';
import { recomputeJson } from './verify-requests.ts';

/** What of a cache is to be computed again, and from what. */
export interface RecomputeOptions {
  /** Entries of every component. */
  readonly entries: number;
  /** The models that the cache is said to be made of: folders or files. Components of other models are left out. */
  readonly models: readonly string[];
  /** Draws the same entries as another verification did; a new one is made when left out. */
  readonly nonce?: string | undefined;
}

/**
 * The request as addon and WASM module take it.
 *
 * @param images the folder of the images; latents are left out without
 */
export async function recomputeRequest(
  { entries, models, nonce }: RecomputeOptions,
  images: string | undefined,
): Promise<string> {
  const folder = images === undefined ? undefined : resolve(images);
  const paths = folder === undefined ? [] : await listImages(folder, 'Check the path given to --images.');
  return recomputeJson({
    entries,
    nonce,
    models: models.map((model) => resolve(model)),
    images: paths.map((path) => join(folder ?? '', path)),
  });
}
