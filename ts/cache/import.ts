import { existsSync, readdirSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { inputError } from '../errors.ts';
import { cancelled } from '../native/cancel.ts';
import type { Engine } from '../native/engine.ts';
import { addon } from '../native/load.ts';
import { loadEngine } from '../native/load-engine.ts';
import { unwrap } from '../native/outcome.ts';
import { type Progress, silentProgress } from '../progress.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { buildShared } from './build-cache.ts';
import { componentState } from './component.ts';
import { imageIdOf } from './data/image-names.ts';
import { sizeOfView } from './data/view.ts';
import { type FilesFacts, readFilesFacts } from './files-facts.ts';
import { requireFolder } from './place.ts';
import { type DrawOptions, serialisePlan } from './plan/plans.ts';
import type { TeacherPlan } from './plan/types.ts';
import { planCache, type SharedDraws } from './plan-cache.ts';
import { fieldsOf, teachersOf } from './request.ts';

/** How to import. */
export interface CacheImportOptions {
  /** Version in the names of the files. */
  readonly version?: string | undefined;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
  /** The device that encodes images and captions; one is opened when left out. */
  readonly engine?: Engine | undefined;
}

/** A teacher whose predictions were brought in. */
export interface ImportedTeacher {
  readonly id: string;
  readonly records: number;
  /** Predictions whose file has another encoded caption than the recipe's text encoders make; not looked at again later. */
  readonly otherTexts?: number;
  /** Files of the teacher that belong to no image of the recipe. */
  readonly unusedFiles: number;
}

/** What an import made. */
export interface ImportedCache {
  readonly dir: string;
  readonly teachers: readonly ImportedTeacher[];
}

/** Version of names that were made without one. */
const DEFAULT_VERSION = '1';

/**
 * Brings the predictions of a cache in the files layout into the cache of a recipe, with their noise, seeds and timesteps as
 * they are. Images and captions are encoded again, for that layout has no latents and its text belongs to single files.
 * To train on it, the recipe's `cache.noise` must be `stored`.
 *
 * @param files the folder that has a folder of files for every teacher of the recipe
 * @throws PotstillError naming the file or image that does not fit
 */
export async function importCache(
  files: string,
  recipe: ResolvedRecipe,
  options: CacheImportOptions = {},
): Promise<ImportedCache> {
  const { version = DEFAULT_VERSION, progress = silentProgress, signal = new AbortController().signal } = options;
  for (const place of [files, recipe.cache.dir]) requireFolder(place, 'cache import');
  checkRecipe(recipe);
  using cancel = cancelled(signal);
  const names = new Map<string, readonly string[]>();
  const facts = new Map<string, FilesFacts>();
  const drawsOf = async (id: string, shared: SharedDraws): Promise<DrawOptions> => {
    const found = namesOf(join(files, id), recipe, shared, version);
    names.set(id, found);
    const outcome = await addon().surveyCacheFiles(files, id, [...found], recipe.cache.dtype, cancel.token);
    signal.throwIfAborted();
    const given = unwrap(outcome);
    const stated = await readFilesFacts(join(files, id), found, signal);
    facts.set(id, stated);
    if (stated.isF32 && recipe.cache.dtype === 'f16') {
      progress.log(`the files of teacher ${id} are in f32: they are rounded to f16, which cache.dtype says`);
    }
    return {
      draws: 1,
      generator: 'stored',
      baseSeed: recipe.seed,
      timesteps: recipe.cache.timesteps,
      given,
      timeIds: timeIdsOf(shared, stated),
    };
  };
  const plans = await planCache(recipe, { drawsOf, progress, signal });
  for (const { plan } of plans.teachers) requirePrediction(plan, facts.get(plan.id));
  const engine = options.engine ?? (await loadEngine({ device: recipe.device, say: (line) => progress.log(line) }));
  await buildShared(engine, recipe, plans, { progress, signal });
  const teachers: ImportedTeacher[] = [];
  for (const { plan } of plans.teachers) {
    const used = names.get(plan.id) ?? [];
    const unusedFiles = countFiles(join(files, plan.id)) - used.length;
    const imported = await importTeacher(files, plans.dir, plan, used, cancel.token);
    signal.throwIfAborted();
    teachers.push({ id: plan.id, ...imported, unusedFiles });
  }
  return { dir: plans.dir, teachers };
}

async function importTeacher(
  files: string,
  dir: string,
  plan: TeacherPlan,
  names: readonly string[],
  cancel: ReturnType<typeof cancelled>['token'],
): Promise<Pick<ImportedTeacher, 'records' | 'otherTexts'>> {
  if ((await componentState(dir, plan)) === 'sealed') return { records: plan.samples.length };
  return unwrap(await addon().importCacheFiles(dir, serialisePlan(plan), files, plan.id, [...names], cancel));
}

/** A file has one prediction, and knows its image by its name alone. */
function checkRecipe(recipe: ResolvedRecipe): void {
  const refuse = (what: string, where: string, remedy: string): Error =>
    inputError('ERR_CACHE_PART', what, { where, remedy });
  if (recipe.cache.layout !== 'shards') {
    throw refuse(
      'files are brought into shards, and the recipe has its cache in files',
      'cache.layout',
      'Set it to "shards"; `potstill train` does that by itself.',
    );
  }
  if (teachersOf(recipe).length === 0) {
    throw refuse(`method "${recipe.method.id}" reads no teacher`, 'method.id', 'Import for a method with teachers.');
  }
  if (fieldsOf(recipe).includes('uncond')) {
    throw refuse(
      'files hold predictions with a caption alone, and the recipe reads unconditional ones',
      'method.id',
      'Choose a method that reads none (multi-teacher) and no captionDropout, or build the cache instead.',
    );
  }
  const flipped = recipe.data.findIndex(({ flip }) => flip);
  if (flipped >= 0) {
    throw refuse('files hold no mirrored views', `data[${flipped}].flip`, 'Leave it out.');
  }
  const shuffled = recipe.data.findIndex(({ shuffle }) => shuffle !== undefined);
  if (shuffled >= 0) {
    throw refuse('files hold a prediction with one order of a caption', `data[${shuffled}].shuffle`, 'Leave it out.');
  }
}

/** The names of the files of all samples, in the order of the plan's records. */
function namesOf(
  folder: string,
  recipe: ResolvedRecipe,
  { scan, predicted }: SharedDraws,
  version: string,
): readonly string[] {
  const missing: string[] = [];
  const sharing: string[] = [];
  const named = new Set<string>();
  const names = predicted.map(({ view }) => {
    const { image = '', view: crop = '' } = scan.views[view] ?? {};
    const path = scan.files.get(image) ?? '';
    const { width, height } = sizeOfView(crop);
    const name = addon().filesName(imageId(path, recipe), width, height, version);
    if (!existsSync(join(folder, `${name}.safetensors`))) missing.push(path);
    if (named.has(name)) sharing.push(path);
    named.add(name);
    return name;
  });
  if (sharing.length > 0) {
    throw inputError(
      'ERR_CACHE_ENTRY',
      `${sharing.length} of ${names.length} samples would have the prediction of another one, ${sharing[0]} among them`,
      {
        where: folder,
        remedy:
          'A file is one picture at one size with one caption, by its path within data[].images: give pictures of several entries different paths, and no picture two captions.',
      },
    );
  }
  const [first] = missing;
  if (first === undefined) return names;
  throw inputError(
    'ERR_CACHE_ENTRY',
    `${missing.length} of ${names.length} samples have no file, ${first} among them`,
    {
      where: folder,
      remedy:
        'Names are made of the path in data[].images without the ending, data[].size and --name-version: compare all three with what made the files.',
    },
  );
}

/** The path of an image in the folder of its data entry, with `/` between the parts, without the ending. */
function imageId(path: string, { data }: ResolvedRecipe): string {
  const inside = data
    .map(({ images }) => relative(images, path))
    .find((below) => below !== '' && !below.startsWith('..'));
  return imageIdOf((inside ?? path).split(sep).join('/'));
}

function countFiles(folder: string): number {
  return readdirSync(folder).filter((name) => /^[0-9a-f]{40}_\d+x\d+\.safetensors$/.test(name)).length;
}

/** A teacher's files must be of what its model predicts, where they say it. */
function requirePrediction({ id, prediction }: TeacherPlan, facts: FilesFacts | undefined): void {
  for (const [kind, file] of facts?.predictions ?? []) {
    if (kind === prediction) continue;
    throw inputError(
      'ERR_CACHE_ENTRY',
      `is a prediction of ${kind}, and teacher ${id}'s model predicts ${prediction}`,
      {
        where: file,
        remedy: `Give the model that made the files as the model of teacher ${id}.`,
      },
    );
  }
}

/** The size conditioning of every view: what its file says, else what the makers of the layout give. */
function timeIdsOf({ predicted, latents }: SharedDraws, { timeIds }: FilesFacts): readonly (readonly number[])[] {
  const stated = new Map(predicted.map(({ view }, index) => [view, timeIds[index]]));
  return latents.views.map(({ view }, index) => stated.get(index) ?? widthFirst(view));
}

/** The size conditioning of SDXL as the makers of the layout give it: width first. */
function widthFirst(view: string): readonly number[] {
  const { width, height } = sizeOfView(view);
  return [width, height, 0, 0, width, height];
}
