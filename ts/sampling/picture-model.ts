import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import type { PictureModel } from './picture-text.ts';

/** A model's name and the SHA-256 of its UNet's weights, one file after the other in the order of their names. */
export async function pictureModel(path: string): Promise<PictureModel> {
  const hash = createHash('sha256');
  const files = await weightFiles(path);
  for (const file of files) for await (const part of createReadStream(file)) hash.update(part as Uint8Array);
  return { name: basename(resolve(path)), ...(files.length === 0 ? {} : { sha256: hash.digest('hex') }) };
}

async function weightFiles(path: string): Promise<readonly string[]> {
  if ((await stat(path)).isFile()) return [path];
  const folder = join(path, 'unet');
  const names = await readdir(folder).catch(() => []);
  return names
    .filter((name) => name.endsWith('.safetensors'))
    .sort()
    .map((name) => join(folder, name));
}
