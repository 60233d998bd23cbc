import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type CacheFile, isRemote, listRemote } from './place.ts';

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
  const found = isRemote(dir) ? summariseListed(await listRemote(dir)) : [];
  if (!isRemote(dir)) await walk(dir, '.', 0, found);
  return found.sort((a, b) => (a.component < b.component ? -1 : 1));
}

async function walk(dir: string, component: string, depth: number, found: FilesSummary[]): Promise<void> {
  const entries = await readdir(join(dir, component), { withFileTypes: true }).catch(() => []);
  const tally = new Tally();
  for (const entry of entries) {
    const size = entry.isFile() ? sizeIn(entry.name) : undefined;
    if (size !== undefined) tally.add(size, (await stat(join(dir, component, entry.name))).size);
  }
  found.push(...tally.summaryOf(component));
  if (depth === MAX_DEPTH) return;
  const folders = entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith(TEMPORARY_PREFIX));
  for (const { name } of folders) {
    await walk(dir, component === '.' ? name : `${component}/${name}`, depth + 1, found);
  }
}

/** The same of the files that a server lists. */
function summariseListed(listed: readonly CacheFile[]): FilesSummary[] {
  const tallies = new Map<string, Tally>();
  for (const { path, bytes } of listed) {
    const folders = path.split('/').slice(0, -1);
    const size = sizeIn(path.slice(path.lastIndexOf('/') + 1));
    if (size === undefined || folders.some((name: string) => name.startsWith(TEMPORARY_PREFIX))) continue;
    const component = folders.length === 0 ? '.' : folders.join('/');
    const tally = tallies.get(component) ?? new Tally();
    tally.add(size, bytes);
    tallies.set(component, tally);
  }
  return [...tallies].flatMap(([component, tally]) => tally.summaryOf(component));
}

/** Counts the files of a folder. */
class Tally {
  readonly #sizes = new Set<string>();
  #files = 0;
  #bytes = 0;

  add(size: string, bytes: number): void {
    this.#sizes.add(size);
    this.#files += 1;
    this.#bytes += bytes;
  }

  /** Nothing of a folder without files. */
  summaryOf(component: string): FilesSummary[] {
    const [files, bytes] = [this.#files, this.#bytes];
    return files === 0 ? [] : [{ component, files, sizes: [...this.#sizes].sort(), bytes }];
  }
}

/** The size of the picture in a file's name, `WxH`; none when verification takes the file for no entry. */
function sizeIn(file: string): string | undefined {
  const [, size, ...sides] = NAME.exec(file) ?? [];
  const fits = sides.map(Number).every((side) => side <= MAX_SIDE && side % DOWNSCALE === 0);
  return fits ? size : undefined;
}
