import { join } from 'node:path';
import { PotstillError } from '../errors.ts';
import type { Engine } from '../native/engine.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { type BuildOptions, buildCache } from './build-cache.ts';
import { OpenedCache } from './opened-cache.ts';
import { CacheReader } from './reader.ts';
import { verifyCache } from './verify.ts';

/**
 * Makes sure that a recipe's cache is complete and whole, and opens it: builds what is missing, refuses what was built by
 * another plan, verifies structure and determinism of everything there.
 *
 * @throws PotstillError as {@link buildCache}; `ERR_CACHE_DAMAGED` when verification finds an error
 */
export async function ensureCache(
  recipe: ResolvedRecipe,
  engine: Engine,
  options: Omit<BuildOptions, 'engine' | 'only'> = {},
): Promise<OpenedCache> {
  const { plans } = await buildCache(recipe, { ...options, engine });
  const { report } = await verifyCache(plans.dir, options);
  const errors = report.findings.filter(({ severity }) => severity === 'error');
  const [first] = errors;
  if (first !== undefined) {
    const more = errors.length > 1 ? ` (and ${errors.length - 1} more findings)` : '';
    throw new PotstillError({
      code: 'ERR_CACHE_DAMAGED',
      kind: 'check',
      what: `the cache is damaged: ${first.code}, expected ${first.expected}, found ${first.found}${more}`,
      where: join(plans.dir, first.file === '' ? first.component : first.file),
      remedy: `See \`potstill cache verify ${plans.dir}\`; delete the damaged component's folder to build it anew.`,
    });
  }
  const teachers = plans.teachers.map(({ plan }) => plan);
  return new OpenedCache(plans, await CacheReader.open(engine, { ...plans, teachers }));
}
