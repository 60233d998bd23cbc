import { existsSync, readdirSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { inputError } from '../errors.ts';
import { cancelled } from '../native/cancel.ts';
import type { Engine } from '../native/engine.ts';
import { addon, loadEngine } from '../native/load.ts';
import { unwrap } from '../native/outcome.ts';
import { type Progress, silentProgress } from '../progress.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { buildComponent } from './build/build-component.ts';
import { latentsBuild } from './build/latents.ts';
import { textBuild } from './build/text.ts';
import { componentState } from './component.ts';
import { sizeOfView } from './data/view.ts';
import { imageIdOf } from './data/walk.ts';
import { nativeStore } from './native-store.ts';
import { type DrawOptions, serialisePlan } from './plan/plans.ts';
import type { TeacherPlan } from './plan/types.ts';
import { type CachePlans, planCache, type SharedDraws } from './plan-cache.ts';
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
  /** Predictions whose file has another encoded caption than the recipe's text encoders make. */
  readonly otherTexts: number;
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
  checkRecipe(recipe);
  using cancel = cancelled(signal);
  const names = new Map<string, readonly string[]>();
  const drawsOf = async (id: string, shared: SharedDraws): Promise<DrawOptions> => {
    const found = namesOf(join(files, id), recipe, shared, version);
    names.set(id, found);
    const outcome = await addon().surveyCacheFiles(files, id, [...found], recipe.cache.dtype, cancel.token);
    signal.throwIfAborted();
    return {
      draws: 1,
      generator: 'stored',
      baseSeed: recipe.seed,
      timesteps: recipe.cache.timesteps,
      given: unwrap(outcome),
      timeIds: shared.latents.views.map(({ view }) => widthFirst(view)),
    };
  };
  const plans = await planCache(recipe, { drawsOf, progress, signal });
  await buildShared(plans, recipe, { progress, signal, engine: options.engine });
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
): Promise<{ readonly records: number; readonly otherTexts: number }> {
  if ((await componentState(dir, plan)) === 'sealed') return { records: plan.samples.length, otherTexts: 0 };
  return unwrap(await addon().importCacheFiles(dir, serialisePlan(plan), files, plan.id, [...names], cancel));
}

async function buildShared(
  { dir, latents, text, scan }: CachePlans,
  { student: { model } }: ResolvedRecipe,
  options: { readonly progress: Progress; readonly signal: AbortSignal; readonly engine: Engine | undefined },
): Promise<void> {
  const engine = options.engine ?? (await loadEngine());
  for (const build of [latentsBuild(engine, latents, scan, model), textBuild(engine, text, model)]) {
    await buildComponent(dir, build, nativeStore(engine), options);
  }
}

/** A file has one prediction, and knows its image by its name alone. */
function checkRecipe(recipe: ResolvedRecipe): void {
  const refuse = (what: string, where: string, remedy: string): Error =>
    inputError('ERR_CACHE_PART', what, { where, remedy });
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
}

/** The names of the files of all samples, in the order of the plan's records. */
function namesOf(folder: string, recipe: ResolvedRecipe, { scan }: SharedDraws, version: string): readonly string[] {
  const missing: string[] = [];
  const names = scan.samples.map(({ view }) => {
    const { image = '', view: crop = '' } = scan.views[view] ?? {};
    const path = scan.files.get(image) ?? '';
    const { width, height } = sizeOfView(crop);
    const name = addon().filesName(imageId(path, recipe), width, height, version);
    if (!existsSync(join(folder, `${name}.safetensors`))) missing.push(path);
    return name;
  });
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

/** The size conditioning of SDXL as the makers of the layout give it: width first. */
function widthFirst(view: string): readonly number[] {
  const { width, height } = sizeOfView(view);
  return [width, height, 0, 0, width, height];
}
