import type { Engine } from '../native/engine.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { type BuildOptions, buildCache } from './build-cache.ts';
import { componentName } from './component.ts';
import { shardsOfFiles } from './open-files.ts';
import { OpenedCache } from './opened-cache.ts';
import { CacheReader } from './reader.ts';
import { requireSound } from './require-sound.ts';
import { verifyCache } from './verify.ts';

/**
 * Makes sure that a recipe's cache is complete and whole, and opens it: builds what is missing, refuses what was built by
 * another plan, verifies structure and determinism of everything that the recipe reads. What lies in the files layout is
 * brought into shards first.
 *
 * @throws PotstillError as {@link buildCache}; `ERR_CACHE_DAMAGED` when verification finds an error
 */
export async function ensureCache(
  given: ResolvedRecipe,
  engine: Engine,
  options: Omit<BuildOptions, 'engine' | 'only' | 'part'> = {},
): Promise<OpenedCache> {
  const recipe = given.cache.layout === 'files' ? await shardsOfFiles(given, engine, options) : given;
  const { plans } = await buildCache(recipe, { ...options, engine });
  const { report } = await verifyCache(plans.dir, options);
  const teachers = plans.teachers.map(({ plan }) => plan);
  requireSound(plans.dir, report, [plans.latents, plans.text, ...teachers].map(componentName));
  return new OpenedCache(plans, await CacheReader.open(engine, { ...plans, teachers }));
}
