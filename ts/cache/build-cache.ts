import { inputError } from '../errors.ts';
import { requireModelMemory } from '../machine/index.ts';
import type { Engine } from '../native/engine.ts';
import { loadEngine } from '../native/load-engine.ts';
import { type Progress, silentProgress } from '../progress.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { buildComponent, type ComponentBuild, type ComponentOutcome } from './build/build-component.ts';
import { latentsBuild } from './build/latents.ts';
import type { Part } from './build/part.ts';
import { teacherBuild } from './build/teacher.ts';
import { textBuild } from './build/text.ts';
import { componentState } from './component.ts';
import { nativeStore } from './native-store.ts';
import type { Plan } from './plan/types.ts';
import { type CachePlans, planCache } from './plan-cache.ts';
import { encodersOf, teachersOf, vaeOf } from './request.ts';

/** What a build may be told. */
export interface BuildOptions {
  /** Builds one part alone: `latents`, `text`, or a teacher's id. */
  readonly only?: string | undefined;
  /** Builds one part of several: its share of every teacher, on latents and text that all parts complete together. */
  readonly part?: Part | undefined;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
  /** The device to build on; one is opened when left out. */
  readonly engine?: Engine | undefined;
}

/** A cache that is complete for its recipe, or for what was asked for. */
export interface BuiltCache {
  readonly plans: CachePlans;
  readonly components: readonly ComponentOutcome[];
}

/**
 * Builds what is missing of a recipe's cache: latents, then text, then one teacher after another, with one model on the
 * device at a time. Finished shards survive an interruption; running it again goes on from there. Parts may run at the same
 * time or one after another, in any order; {@link sealCache} joins them.
 *
 * @throws PotstillError naming the file or entry; the signal's reason when it is aborted
 */
export async function buildCache(recipe: ResolvedRecipe, options: BuildOptions = {}): Promise<BuiltCache> {
  const { only, part, progress = silentProgress, signal = new AbortController().signal } = options;
  checkLayout(recipe);
  checkPart(recipe, only);
  const isWanted = (id: string): boolean => only === undefined || only === id;
  const plans = await planCache(recipe, { teachers: isWanted, progress, signal });
  // Refusals first: nothing is built beside a component of another plan.
  const missing = await missingOf(plans.dir, [plans.latents, plans.text, ...plans.teachers.map(({ plan }) => plan)]);
  requireImported(plans, missing);
  const engine = options.engine ?? (await loadEngine({ device: recipe.device, say: (line) => progress.log(line) }));
  await requireBuildMemory(engine, recipe, plans, missing);
  const components: ComponentOutcome[] = [];
  for (const build of await buildsOf(engine, recipe, plans, only)) {
    components.push(await buildComponent(plans.dir, build, nativeStore(engine), { progress, signal, part }));
  }
  return { plans, components };
}

/** Builds what is missing of latents and text, for teachers whose predictions come from elsewhere. */
export async function buildShared(
  engine: Engine,
  recipe: ResolvedRecipe,
  plans: CachePlans,
  options: { readonly progress: Progress; readonly signal: AbortSignal },
): Promise<void> {
  const missing = await missingOf(plans.dir, [plans.latents, plans.text]);
  await requireBuildMemory(engine, recipe, { ...plans, teachers: [] }, missing);
  const { latents, text } = sharedBuilds(engine, recipe, plans);
  for (const build of [latents, text]) await buildComponent(plans.dir, build, nativeStore(engine), options);
}

/** Those of some plans whose components are not sealed. */
async function missingOf(dir: string, wanted: readonly Plan[]): Promise<ReadonlySet<Plan>> {
  const missing = new Set<Plan>();
  for (const plan of wanted) if ((await componentState(dir, plan)) !== 'sealed') missing.add(plan);
  return missing;
}

/** How latents and text are made: by the models that the plans have the digests of. */
function sharedBuilds(
  engine: Engine,
  recipe: ResolvedRecipe,
  { latents, text, scan, kind }: CachePlans,
): { readonly latents: ComponentBuild; readonly text: ComponentBuild } {
  const vae = { path: vaeOf(recipe), kind };
  return { latents: latentsBuild(engine, latents, scan, vae), text: textBuild(engine, text, encodersOf(recipe)) };
}

/** Nobody but its maker can draw stored noise. */
function requireImported({ dir, teachers }: CachePlans, missing: ReadonlySet<Plan>): void {
  const unfinished = teachers.find(({ plan }) => plan.noise.generator === 'stored' && missing.has(plan));
  if (unfinished === undefined) return;
  throw inputError('ERR_CACHE_PART', `teacher ${unfinished.plan.id} was imported, but not to its end`, {
    where: dir,
    remedy: 'Run `potstill cache import FILES RECIPE` again: it goes on where it stopped.',
  });
}

/** One model is loaded at a time, and none for what is sealed. */
async function requireBuildMemory(
  { device }: Engine,
  recipe: ResolvedRecipe,
  { latents, text, teachers }: CachePlans,
  missing: ReadonlySet<Plan>,
): Promise<void> {
  const model = encodersOf(recipe);
  if (missing.has(latents)) await requireModelMemory([{ model: recipe.student.vae ?? model, part: 'vae' }], device);
  if (missing.has(text)) await requireModelMemory([{ model, part: 'text' }], device);
  for (const { plan, model: teacher } of teachers) {
    const dtype = plan.storage;
    if (missing.has(plan)) await requireModelMemory([{ model: teacher, part: 'unet', dtype }], device);
  }
}

/** Shards are what is built; files are what is found. */
function checkLayout({ cache: { layout, dir } }: ResolvedRecipe): void {
  if (layout === 'shards') return;
  throw inputError('ERR_CACHE_PART', 'a cache in the files layout is read, not built', {
    where: dir,
    remedy: 'Set cache.layout to "shards", and write the other layout with `potstill cache export --layout files`.',
  });
}

function checkPart(recipe: ResolvedRecipe, only: string | undefined): void {
  const ids = teachersOf(recipe).map(({ id }) => id);
  if (only === undefined || ['latents', 'text', ...ids].includes(only)) return;
  const known = recipe.teachers.some(({ id }) => id === only);
  throw inputError(
    'ERR_CACHE_PART',
    known ? `method "${recipe.method.id}" reads no teacher` : `the recipe has no teacher "${only}"`,
    {
      where: `--only ${only}`,
      remedy: `Choose one of: ${['latents', 'text', ...ids].join(', ')}.`,
    },
  );
}

async function buildsOf(
  engine: Engine,
  recipe: ResolvedRecipe,
  plans: CachePlans,
  only: string | undefined,
): Promise<readonly ComponentBuild[]> {
  const shared = sharedBuilds(engine, recipe, plans);
  const ofTeachers = plans.teachers
    .filter(({ plan }) => only === undefined || plan.id === only)
    .map((teacher) => teacherBuild(engine, teacher.plan, plans, teacher));
  if (only === undefined) return [shared.latents, shared.text, ...ofTeachers];
  if (only === 'latents' || only === 'text') return [shared[only]];
  await requireSealed(plans);
  return ofTeachers;
}

async function requireSealed({ dir, latents, text }: CachePlans): Promise<void> {
  for (const plan of [latents, text]) {
    if ((await componentState(dir, plan)) === 'sealed') continue;
    throw inputError('ERR_CACHE_PART', `teachers predict on what lies in ${plan.component}, which is not built yet`, {
      where: dir,
      remedy: `Build with --only ${plan.component} first, or without --only.`,
    });
  }
}
