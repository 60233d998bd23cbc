import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { machineError } from '../errors.ts';
import { packageVersion } from '../version.ts';

/** Where the models, pictures and recipes lie when potstill runs from its repository. */
const IN_REPOSITORY = fileURLToPath(new URL('../../configs/demo', import.meta.url));

/**
 * Folder of the demo's models, pictures and recipes: the package `@potstill/demo`, or the repository's own.
 *
 * @throws PotstillError ERR_DEMO_MISSING
 */
export function demoFolder(): string {
  const folder = installed() ?? IN_REPOSITORY;
  if (existsSync(join(folder, 'base', 'model_index.json'))) return folder;
  throw machineError('ERR_DEMO_MISSING', 'the demo’s models are not installed', {
    where: folder,
    remedy: `npm install @potstill/demo@${packageVersion()}`,
  });
}

function installed(): string | undefined {
  try {
    return dirname(createRequire(import.meta.url).resolve('@potstill/demo/package.json'));
  } catch {
    return undefined;
  }
}
