import { inputError } from '../errors.ts';
import { requireModelMemory } from '../machine/index.ts';
import type { Engine } from '../native/engine.ts';
import { loadEngine } from '../native/load.ts';
import { type Progress, silentProgress } from '../progress.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { buildComponent, type ComponentBuild, type ComponentOutcome } from './build/build-component.ts';
import { latentsBuild } from './build/latents.ts';
import { teacherBuild } from './build/teacher.ts';
import { textBuild } from './build/text.ts';
import { componentState } from './component.ts';
import { nativeStore } from './native-store.ts';
import { type CachePlans, planCache } from './plan-cache.ts';
import { teachersOf } from './request.ts';

/** What a build may be told. */
export interface BuildOptions {
  /** Builds one part alone: `latents`, `text`, or a teacher's id. */
  readonly only?: string | undefined;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
  /** The device to build on; one is opened when left out. */
  readonly engine?: Engine | undefined;
}

/** A cache that is complete for its recipe, or for the part that was asked for. */
export interface BuiltCache {
  readonly plans: CachePlans;
  readonly components: readonly ComponentOutcome[];
}

/**
 * Builds what is missing of a recipe's cache: latents, then text, then one teacher after another, with one model on the
 * device at a time. Finished shards survive an interruption; running it again goes on from there.
 *
 * @throws PotstillError naming the file or entry; the signal's reason when it is aborted
 */
export async function buildCache(recipe: ResolvedRecipe, options: BuildOptions = {}): Promise<BuiltCache> {
  const { only, progress = silentProgress, signal = new AbortController().signal } = options;
  checkPart(recipe, only);
  const isWanted = (id: string): boolean => only === undefined || only === id;
  const plans = await planCache(recipe, { teachers: isWanted, progress, signal });
  // Refusals first: nothing is built beside a component of another plan.
  const wanted = [plans.latents, plans.text, ...plans.teachers.map(({ plan }) => plan)];
  const missing = new Set<unknown>();
  for (const plan of wanted) if ((await componentState(plans.dir, plan)) !== 'sealed') missing.add(plan);
  requireImported(plans, missing);
  await requireBuildMemory(recipe, plans, missing);
  const engine = options.engine ?? (await loadEngine());
  const components: ComponentOutcome[] = [];
  for (const build of await buildsOf(engine, recipe, plans, only)) {
    components.push(await buildComponent(plans.dir, build, nativeStore(engine), { progress, signal }));
  }
  return { plans, components };
}

/** Nobody but its maker can draw stored noise. */
function requireImported({ dir, teachers }: CachePlans, missing: ReadonlySet<unknown>): void {
  const unfinished = teachers.find(({ plan }) => plan.noise.generator === 'stored' && missing.has(plan));
  if (unfinished === undefined) return;
  throw inputError('ERR_CACHE_PART', `teacher ${unfinished.plan.id} was imported, but not to its end`, {
    where: dir,
    remedy: 'Run `potstill cache import FILES RECIPE` again: it goes on where it stopped.',
  });
}

/** One model is loaded at a time, and none for what is sealed. */
async function requireBuildMemory(
  { student: { model } }: ResolvedRecipe,
  { latents, text, teachers }: CachePlans,
  missing: ReadonlySet<unknown>,
): Promise<void> {
  if (missing.has(latents)) await requireModelMemory([{ model, part: 'vae' }]);
  if (missing.has(text)) await requireModelMemory([{ model, part: 'text' }]);
  for (const { plan, model: teacher } of teachers) {
    if (missing.has(plan)) await requireModelMemory([{ model: teacher, part: 'unet' }]);
  }
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
  const { model } = recipe.student;
  const { dir, latents, text, teachers, scan } = plans;
  const shared = { dir, latents, text };
  if (only === undefined) {
    return [
      latentsBuild(engine, latents, scan, model),
      textBuild(engine, text, model),
      ...teachers.map((teacher) => teacherBuild(engine, teacher.plan, shared, teacher.model)),
    ];
  }
  if (only === 'latents') return [latentsBuild(engine, latents, scan, model)];
  if (only === 'text') return [textBuild(engine, text, model)];
  await requireSealed(plans);
  return teachers
    .filter(({ plan }) => plan.id === only)
    .map((teacher) => teacherBuild(engine, teacher.plan, shared, teacher.model));
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
