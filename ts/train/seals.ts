import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { componentName, SEAL_FILE } from '../cache/component.ts';
import type { CachePlans } from '../cache/plan-cache.ts';

/** SHA-256, in hex, of the seal of each component that a run reads: `latents`, `text`, `teachers/<id>`. */
export type Seals = Readonly<Record<string, string>>;

/** The seals of a complete cache: they name its contents, wherever it lies. */
export async function readSeals({ dir, latents, text, teachers }: CachePlans): Promise<Seals> {
  const names = [latents, text, ...teachers.map(({ plan }) => plan)].map(componentName);
  const digests = names.map(async (name) => {
    const seal = await readFile(join(dir, name, SEAL_FILE));
    return [name, createHash('sha256').update(seal).digest('hex')] as const;
  });
  return Object.fromEntries(await Promise.all(digests));
}
