import { statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isRemote, listRemote } from './place.ts';

/** Files that lie in the folder of a component. */
export interface ListedComponent {
  /** `latents`, `text` or `teachers/<id>`. */
  readonly component: string;
  readonly files: readonly { readonly name: string; readonly bytes: number }[];
}

/** Folders of components that every cache may have. */
const SHARED = ['latents', 'text'];

/** The components of a cache, whether there is anything in their folders or not: latents and text, then teachers by name. */
export async function listComponents(cache: string): Promise<readonly ListedComponent[]> {
  return isRemote(cache) ? await listOfServer(cache) : await listOfFolder(cache);
}

async function listOfFolder(cache: string): Promise<readonly ListedComponent[]> {
  const entries = await readdir(join(cache, 'teachers'), { withFileTypes: true }).catch(() => []);
  const teachers = entries.filter((entry) => entry.isDirectory()).map(({ name }) => `teachers/${name}`);
  const found: ListedComponent[] = [];
  for (const component of [...SHARED, ...teachers.sort()]) found.push(await filesOf(cache, component));
  return found;
}

async function filesOf(cache: string, component: string): Promise<ListedComponent> {
  const folder = join(cache, component);
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  // One by one: of tens of thousands of shards, promises would take several times the time and memory of the answers.
  const files = entries
    .filter((entry) => entry.isFile())
    .map(({ name }) => ({ name, bytes: statSync(join(folder, name)).size }));
  return { component, files };
}

async function listOfServer(cache: string): Promise<readonly ListedComponent[]> {
  const found = new Map<string, { name: string; bytes: number }[]>(SHARED.map((component) => [component, []]));
  for (const { path, bytes } of await listRemote(cache)) {
    const [, component, name] = /^(latents|text|teachers\/[^/]+)\/([^/]+)$/.exec(path) ?? [];
    if (component === undefined || name === undefined) continue;
    const files = found.get(component) ?? [];
    files.push({ name, bytes });
    found.set(component, files);
  }
  return [...found].map(([component, files]) => ({ component, files }));
}
