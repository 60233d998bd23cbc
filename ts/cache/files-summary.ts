import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** A teacher's folder of a cache in the files layout, by the names of its files alone. */
export interface FilesSummary {
  /** The folder, relative to the cache; `.` for the cache itself. */
  readonly component: string;
  readonly files: number;
  /** Sizes of the pictures, `WxH`, in the order in which they are met. */
  readonly sizes: readonly string[];
  readonly bytes: number;
}

/** Deepest folder that is looked into, as in verification. */
const MAX_DEPTH = 4;
const NAME = /^[0-9a-f]{40}_(([1-9]\d{0,3})x([1-9]\d{0,3}))\.safetensors$/;
/** Sides are multiples of the pixels for a value of a latent, up to the largest that verification reads. */
const DOWNSCALE = 8;
const MAX_SIDE = 8192;
/** Begins the names of folders that are not finished. */
const TEMPORARY_PREFIX = '.potstill-';

/**
 * The folders of a cache in the files layout, by name; none when it is no such cache.
 *
 * Files that lie beside the components of a cache in shards are no part of it: look for those first, with `surveyCache`.
 */
export async function summariseFiles(dir: string): Promise<readonly FilesSummary[]> {
  const found: FilesSummary[] = [];
  await walk(dir, '.', 0, found);
  return found.sort((a, b) => (a.component < b.component ? -1 : 1));
}

async function walk(dir: string, component: string, depth: number, found: FilesSummary[]): Promise<void> {
  const entries = await readdir(join(dir, component), { withFileTypes: true }).catch(() => []);
  let [files, bytes] = [0, 0];
  const sizes = new Set<string>();
  for (const entry of entries) {
    const size = entry.isFile() ? sizeIn(entry.name) : undefined;
    if (size === undefined) continue;
    files += 1;
    bytes += (await stat(join(dir, component, entry.name))).size;
    sizes.add(size);
  }
  if (files > 0) found.push({ component, files, sizes: [...sizes].sort(), bytes });
  if (depth === MAX_DEPTH) return;
  const folders = entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith(TEMPORARY_PREFIX));
  for (const { name } of folders) {
    await walk(dir, component === '.' ? name : `${component}/${name}`, depth + 1, found);
  }
}

/** The size of the picture in a file's name, `WxH`; none when verification takes the file for no entry. */
function sizeIn(file: string): string | undefined {
  const [, size, ...sides] = NAME.exec(file) ?? [];
  const fits = sides.map(Number).every((side) => side <= MAX_SIDE && side % DOWNSCALE === 0);
  return fits ? size : undefined;
}
