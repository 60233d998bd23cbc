import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { knownSha256 } from '../model/known-digest.ts';
import { addon } from '../native/index.ts';
import { unwrap } from '../native/outcome.ts';
import type { PictureModel } from './picture-text.ts';

/** What a picture says of a model, a folder or file: its name. */
export function modelName(path: string): string {
  return basename(resolve(path));
}

/** A model's name and the SHA-256 of its UNet's weights, one file after the other in the order of their names. */
export async function pictureModel(path: string, signal?: AbortSignal): Promise<PictureModel> {
  const files = await weightFiles(path);
  return {
    name: modelName(path),
    ...(files.length === 0 ? {} : { sha256: await knownSha256(files, { signal }) }),
  };
}

/** What the loader reads: of several variants or shards in a folder those that it takes. */
async function weightFiles(path: string): Promise<readonly string[]> {
  if ((await stat(path)).isFile()) return [path];
  if (!existsSync(join(path, 'unet', 'config.json'))) return [];
  return unwrap(await addon().inspectUnet(path)).files.weights;
}
