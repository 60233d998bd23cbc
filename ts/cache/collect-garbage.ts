import { resolve } from 'node:path';
import { inputError } from '../errors.ts';
import type { CacheGarbageFound } from '../native/generated/binding.js';
import { addon } from '../native/load.ts';
import { unwrap } from '../native/outcome.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { requireFolder } from './place.ts';
import { teachersOf } from './request.ts';

/** What of a cache goes. */
export interface GarbageOptions {
  /** Removes what is found; without it, nothing is written. */
  readonly remove?: boolean | undefined;
  /** The recipes that use the cache: teachers that none of them reads are garbage too. All are kept without recipes. */
  readonly recipes?: readonly ResolvedRecipe[] | undefined;
}

/**
 * Finds what nothing in a cache refers to: files that a killed build or export left half written, shards beyond a plan or
 * without one, shards of an unfinished component that a build would write anew. Files that potstill does not name so are
 * never among it, and links are not followed. A folder in which a build is at work is passed over.
 *
 * @throws PotstillError `ERR_CACHE_MISSING` when there is no cache; `ERR_CACHE_PART` when a recipe has another one
 */
export async function collectGarbage(
  dir: string,
  { remove = false, recipes = [] }: GarbageOptions = {},
): Promise<CacheGarbageFound> {
  requireFolder(dir, 'cache gc');
  for (const { name, cache } of recipes) {
    if (resolve(cache.dir) === resolve(dir)) continue;
    throw inputError('ERR_CACHE_PART', `recipe ${name} has its cache in another folder: ${cache.dir}`, {
      where: dir,
      remedy: 'Give the recipes whose cache.dir this folder is.',
    });
  }
  const keep = recipes.flatMap((recipe) => teachersOf(recipe).map(({ id }) => id));
  return unwrap(await addon().collectGarbage(dir, remove, recipes.length === 0 ? undefined : keep));
}
