import { cp, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { buildCache } from '../cache/index.ts';
import { inputError, PotstillError } from '../errors.ts';
import { type Evaluation, evaluate } from '../evaluate/index.ts';
import { loadEngine } from '../native/index.ts';
import type { Progress } from '../progress.ts';
import { loadRecipe, type ResolvedRecipe } from '../recipe/index.ts';
import { RUN_FILES, type VerificationRow, writeReport } from '../report/index.ts';
import { train } from '../train/train.ts';
import { demoFolder } from './assets.ts';
import { captionsOf } from './prompts.ts';
import { type Stage, Stages } from './stages.ts';
import { verifyDamaged, verifyTwice } from './verify.ts';

/** What a demo may be told. */
export interface DemoOptions {
  /** Folder for everything it makes. */
  readonly out: string;
  /** The longer recipe: more draws, more steps, the same method. */
  readonly long: boolean;
  /** `key=value` for the recipe. */
  readonly set?: readonly string[];
  /** Prompts of either kind, trained on and held out, that the distance is measured over. */
  readonly prompts?: number;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

/** What a demo came to. */
export interface DemoResult {
  /** The page to open. */
  readonly report: string;
  readonly run: string;
  readonly distance: Evaluation['distance'];
  readonly verification: readonly VerificationRow[];
  readonly stages: readonly Stage[];
}

/** Prompts of either kind that the distance is measured over unless told otherwise. */
export const DEFAULT_PROMPTS = 16;
/** How many of either kind the report shows. */
const PICTURES = 6;
const EVALUATION_STEPS = 20;
const SEEDS = [1];

/** Folders of the pictures; those held out of training have a folder of their own beside each. */
const SUBJECTS = ['nature', 'people'] as const;

/** By this file a folder is known as a demo's, which the next demo may replace. */
const MARKER = 'potstill-demo.json';

/**
 * The whole pipeline on small models and real pictures: caches, verification, training from the caches alone, pictures
 * from the same noise, a report.
 *
 * @throws PotstillError `ERR_DEMO_OUT` when the folder holds something else; whatever the stages throw
 */
export async function runDemo({
  out,
  long,
  set = [],
  prompts = DEFAULT_PROMPTS,
  progress,
  signal,
}: DemoOptions): Promise<DemoResult> {
  const assets = demoFolder();
  const folder = resolve(out);
  const stages = new Stages();
  await prepare(folder);
  const recipe = await demoRecipe(assets, folder, { long, set });
  const guidance = guidanceOf(recipe);
  const { dir: cache } = recipe.cache;

  const engine = await loadEngine({ device: recipe.device });
  await stages.run('build the caches', () => buildCache(recipe, { engine, progress, signal }));
  const verification = await stages.run('verify them, natively and in WASM', async () => [
    await verifyTwice(cache, 'the caches as built', 'clean', { progress, signal }),
  ]);
  const teacher = recipe.teachers[0]?.id ?? '';
  const damaged = await stages.run('verify damaged copies', () =>
    verifyDamaged(cache, join(folder, 'damaged'), teacher, { progress, signal }),
  );
  verification.push(...damaged);

  // From here on the caches are all there is of the teachers.
  await rm(join(folder, 'teachers'), { recursive: true });
  const { folder: run, student } = await stages.run('train the student', () =>
    train(recipe, { resume: false, progress, signal }),
  );
  const evaluation = await stages.run('draw with teachers, student and undistilled model', async () =>
    evaluate({
      engine,
      base: recipe.student.model,
      student,
      teachers: recipe.teachers.map(({ id, weight }) => ({ model: join(assets, `teacher-${id}`), weight })),
      guidance,
      prompts: [...(await demoPrompts(assets, false, prompts)), ...(await demoPrompts(assets, true, prompts))],
      seeds: SEEDS,
      sampler: 'ddim',
      steps: EVALUATION_STEPS,
      pictures: PICTURES,
      out: join(run, 'evaluation'),
      progress,
      signal,
    }),
  );
  await writeJson(join(run, RUN_FILES.verification), verification);
  await writeJson(join(run, RUN_FILES.stages), stages.done);
  const report = await writeReport(run, join(folder, 'report.html'));
  requireAsExpected(verification);
  if (set.length === 0) requireProgress(evaluation.distance.all);
  return { report, run, distance: evaluation.distance, verification, stages: stages.done };
}

/** Makes the folder, or empties that of an earlier demo. */
async function prepare(folder: string): Promise<void> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException): string[] => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  if (names.length > 0 && !names.includes(MARKER)) {
    throw inputError('ERR_DEMO_OUT', 'the folder is not empty and not an earlier demo’s', {
      where: folder,
      remedy: 'Name another folder with --out.',
    });
  }
  for (const name of names.filter((entry) => entry !== MARKER)) await rm(join(folder, name), { recursive: true });
  await mkdir(folder, { recursive: true });
  await writeJson(join(folder, MARKER), { made: 'by potstill demo, which may replace everything here' });
}

/** The demo's recipe with everything it writes, and copies of the teachers, in one folder. */
async function demoRecipe(
  assets: string,
  folder: string,
  { long, set }: Required<Pick<DemoOptions, 'long' | 'set'>>,
): Promise<ResolvedRecipe> {
  const { recipe } = await loadRecipe(join(assets, 'recipes', long ? 'demo-long.json' : 'demo.json'), { set });
  const teachers = await Promise.all(
    recipe.teachers.map(async (teacher) => {
      const model = join(folder, 'teachers', teacher.id);
      await cp(teacher.model, model, { recursive: true });
      return { ...teacher, model };
    }),
  );
  return { ...recipe, teachers, output: join(folder, 'run'), cache: { ...recipe.cache, dir: join(folder, 'cache') } };
}

async function demoPrompts(assets: string, heldOut: boolean, count: number): ReturnType<typeof captionsOf> {
  const folders = SUBJECTS.map((subject) => join(assets, 'images', heldOut ? `${subject}-held-out` : subject));
  return captionsOf(folders, heldOut, count);
}

async function writeJson(path: string, value: unknown): Promise<void> {
  await writeFile(path, `${JSON.stringify(value, undefined, 2)}\n`);
}

/** The guidance that the student is to do without: the teachers are drawn under it. */
function guidanceOf({ method }: ResolvedRecipe): number {
  if (method.id === 'cfg' && typeof method.guidance === 'number' && method.rescale === 0) return method.guidance;
  throw inputError('ERR_DEMO_METHOD', 'the demo compares with teachers under one guidance, without rescale', {
    where: 'method',
    remedy: 'Set method.guidance to a number and method.rescale to 0, or use `potstill train`.',
  });
}

/** Largest distance with which the shipped recipes still show what distillation does. */
const MAX_DISTANCE = 0.8;

/** The shipped recipe must come as close as it is said to: said after the report is written. */
function requireProgress(distance: number): void {
  if (distance <= MAX_DISTANCE) return;
  throw new PotstillError({
    code: 'ERR_DEMO_DISTANCE',
    kind: 'check',
    what: `the student's distance is ${distance.toFixed(3)}, more than ${MAX_DISTANCE}`,
    remedy: 'This is a bug in potstill: please report it with the output of `potstill doctor --json`.',
  });
}

/** A damage that nobody noticed, or reports that differ, are a failed check: said after the report is written. */
function requireAsExpected(rows: readonly VerificationRow[]): void {
  const wrong = rows.filter(
    ({ expected, findings, wasmEqual }) => (findings.length === 0) !== (expected === 'clean') || wasmEqual !== true,
  );
  if (wrong.length === 0) return;
  throw new PotstillError({
    code: 'ERR_DEMO_VERIFICATION',
    kind: 'check',
    what: `verification went otherwise than it should: ${wrong.map(({ subject }) => subject).join('; ')}`,
    remedy: 'See the table in the report.',
  });
}
