import { join } from 'node:path';
import type { Engine } from '../native/engine.ts';
import { type Progress, silentProgress } from '../progress.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { type ImportedTeacher, importCache } from './import.ts';
import { requireSound } from './require-sound.ts';
import { verifyCache } from './verify.ts';

/** Where, in the folder of the files, lies what training needs besides: latents, text, and the predictions by record. */
const SHARDS = 'shards';

/**
 * The recipe of the shards that hold what a recipe's files do (`cache.layout` is `files`, `cache.dir` the folder with a folder
 * for every teacher). The files are verified, and what is missing of the shards is brought in: their layout has no
 * latents, and is found by names, not by records. They stay as they are.
 *
 * @throws PotstillError as `importCache`; `ERR_CACHE_DAMAGED` when verification of the files finds an error
 */
export async function shardsOfFiles(
  recipe: ResolvedRecipe,
  engine: Engine,
  {
    progress = silentProgress,
    signal,
  }: { readonly progress?: Progress | undefined; readonly signal?: AbortSignal | undefined },
): Promise<ResolvedRecipe> {
  const { dir } = recipe.cache;
  const { report } = await verifyCache(dir, { progress, signal });
  requireSound(
    dir,
    report,
    recipe.teachers.map(({ id }) => id),
  );
  const shards: ResolvedRecipe = {
    ...recipe,
    cache: { ...recipe.cache, layout: 'shards', noise: 'stored', dir: join(dir, SHARDS) },
  };
  const { teachers } = await importCache(dir, shards, { progress, signal, engine });
  for (const teacher of teachers) for (const line of remarks(teacher)) progress.log(`teacher ${teacher.id}: ${line}`);
  return shards;
}

/** What is not an error, but was perhaps not meant. */
function* remarks({ records, otherTexts, unusedFiles }: ImportedTeacher): Generator<string> {
  if (unusedFiles > 0) yield `${unusedFiles} files are of no image of the recipe`;
  if (otherTexts !== undefined && otherTexts > 0) {
    yield `${otherTexts} of ${records} files have another encoded caption than the recipe's text encoders make, which are used`;
  }
}
