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
const NAME = /^[0-9a-f]{40}_(\d{1,4}x\d{1,4})\.safetensors$/;

/** The folders of a cache in the files layout, by name; none when it is no such cache. */
export async function summariseFiles(dir: string): Promise<readonly FilesSummary[]> {
  const found: FilesSummary[] = [];
  await walk(dir, '.', 0, found);
  return found.sort((a, b) => (a.component < b.component ? -1 : 1));
}

async function walk(dir: string, component: string, depth: number, found: FilesSummary[]): Promise<void> {
  const entries = await readdir(join(dir, component), { withFileTypes: true }).catch(() => []);
  const names = entries.filter((entry) => entry.isFile() && NAME.test(entry.name)).map(({ name }) => name);
  if (names.length > 0) {
    let bytes = 0;
    for (const name of names) bytes += (await stat(join(dir, component, name))).size;
    const sizes = new Set(names.map((name) => NAME.exec(name)?.[1] ?? ''));
    found.push({ component, files: names.length, sizes: [...sizes].sort(), bytes });
  }
  if (depth === MAX_DEPTH) return;
  for (const { name } of entries.filter((entry) => entry.isDirectory())) {
    await walk(dir, component === '.' ? name : `${component}/${name}`, depth + 1, found);
  }
}
