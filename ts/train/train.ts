import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { encodersOf, ensureCache, vaeOf } from '../cache/index.ts';
import { interruptedError } from '../errors.ts';
import { requireTrainingMemory } from '../machine/index.ts';
import { effectiveGuidance } from '../methods/regularise.ts';
import { type Engine, loadEngine } from '../native/index.ts';
import type { Progress } from '../progress.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { type Assembly, assemble } from './assemble.ts';
import { pruneCheckpoints, stepName } from './checkpoints.ts';
import { runLoop } from './loop.ts';
import type { RunRequests } from './requests.ts';
import { openRunFolder, type RunFolder, studentName } from './run-folder.ts';
import { RunSamples } from './run-samples.ts';
import { saveStudent } from './save-student.ts';
import { readSeals, type Seals } from './seals.ts';
import { loadState, saveState } from './state.ts';
import { Trainer, type TrainerParts } from './trainer.ts';
import type { ValidationFigures } from './validation.ts';

/** How {@link train} runs. */
export interface TrainOptions {
  /** Go on from the newest checkpoint in the run's folder. */
  readonly resume: boolean;
  readonly progress: Progress;
  /** Once aborted, the step under way is finished and a checkpoint written. */
  readonly signal: AbortSignal;
  /** Asked after every update for samples and saves out of turn. */
  readonly requests?: RunRequests | undefined;
  /** The device to train on; one is opened when left out. */
  readonly engine?: Engine | undefined;
}

/** A finished run. */
export interface TrainResult {
  /** The run's folder. */
  readonly folder: string;
  /** The trained student: a diffusers UNet folder, or the file of a LoRA. */
  readonly student: string;
  /** Updates of the whole run. */
  readonly step: number;
  /** Loss of the last update; missing when the run was finished already. */
  readonly loss?: number | undefined;
  /** Seconds that all updates took, over all resumptions. */
  readonly seconds: number;
  readonly validation?: ValidationFigures | undefined;
  /** Means over the updates of what methods log, by `<method>/<name>`; losses are not among them. */
  readonly figures: Readonly<Record<string, number>>;
}

/**
 * Trains a recipe's student: builds what is missing of the caches, verifies them, and updates until the recipe's last
 * step. Teachers are not loaded once their caches are sealed.
 *
 * @throws PotstillError when the recipe, its files or its caches cannot be used; `ERR_INTERRUPTED` after the checkpoint
 *   was written
 */
export async function train(recipe: ResolvedRecipe, options: TrainOptions): Promise<TrainResult> {
  const { resume, progress, signal } = options;
  const engine = options.engine ?? (await loadEngine({ device: recipe.device, say: (line) => progress.log(line) }));
  await requireTrainingMemory(recipe, engine.device);
  const run = await openRunFolder(recipe.output, recipe, resume);
  const cache = await ensureCache(recipe, engine, { progress, signal });
  const assembly = await assemble(engine, recipe, cache);
  try {
    const seals = await readSeals(cache, recipe.student, { progress, signal });
    const samples = await samplesOf(engine, recipe, run, assembly, options);
    const release = await run.claim();
    try {
      return await trainIn(run, recipe, { ...assembly, samples }, seals, options);
    } finally {
      await release();
    }
  } finally {
    dispose(assembly);
  }
}

/** Says what regularisers leave of the guidance that method `cfg` was asked for. */
function describeGuidance({ method, training: { regularise, loss } }: ResolvedRecipe, progress: Progress): void {
  if (method.id !== 'cfg' || loss.id !== 'mse' || regularise.prior + regularise.data === 0) return;
  const remaining = [method.guidance].flat().map((guidance) => effectiveGuidance(guidance, regularise).toFixed(2));
  progress.log(
    `training.regularise draws the student towards guidance 1: of ${[method.guidance].flat().join(' to ')} it keeps about ` +
      `${remaining.join(' to ')} (a student that starts as its teacher).`,
  );
}

/** Says what an epoch is made of where it is of several sizes or methods: every picture is in one of them. */
function describeBuckets({ plan: { histogram }, methods }: TrainerParts, progress: Progress): void {
  if (histogram.size < 2) return;
  const counts = [...histogram].map(([name, count]) => {
    const words = name
      .split('|')
      .map((word) => (/^\d+$/.test(word) ? (methods[Number(word)]?.method.id ?? word) : word));
    return `${words.join(' ')}: ${count}`;
  });
  const rows = [...histogram.values()].reduce((sum, count) => sum + count, 0);
  progress.log(`An epoch has ${rows} rows (${counts.join(', ')}).`);
}

/** Frees what a run has taken: the weights, and several times their size of state. */
function dispose({ parts: { student, loras, optimizers, ema, prior, teachers } }: Assembly): void {
  prior?.dispose();
  teachers?.dispose();
  for (const { lora, text } of loras) {
    lora.dispose();
    text?.dispose();
  }
  student.text?.dispose();
  student.unet.dispose();
  student.schedule.dispose();
  for (const optimizer of Object.values(optimizers)) optimizer.dispose();
  ema?.dispose();
}

async function samplesOf(
  engine: Engine,
  recipe: ResolvedRecipe,
  { samples: folder }: RunFolder,
  { parts }: Assembly,
  { progress, signal }: TrainOptions,
): Promise<RunSamples | undefined> {
  const { student, sampling } = recipe;
  if (sampling === undefined) return undefined;
  const models = { model: student.model, encoders: encodersOf(recipe), vae: vaeOf(recipe) };
  return RunSamples.open({ engine, ...models, sampling, folder, parts, progress, signal });
}

async function trainIn(
  run: RunFolder,
  recipe: ResolvedRecipe,
  { parts, validation, samples }: Assembly & { readonly samples: RunSamples | undefined },
  cache: Seals,
  { progress, signal, requests }: TrainOptions,
): Promise<TrainResult> {
  const { checkpoint, batch, accumulation } = recipe.training;
  describeGuidance(recipe, progress);
  describeBuckets(parts, progress);
  const before = run.resumeFrom && (await loadState(run.resumeFrom, parts, cache, progress));
  const trainer = new Trainer(parts);
  const every = recipe.training.validation?.every;
  const samplesEvery = recipe.sampling?.every;
  const result = await runLoop({
    update: (number) => trainer.update(number),
    steps: parts.steps,
    from: before?.step ?? 0,
    samplesPerStep: batch * accumulation,
    secondsBefore: before?.seconds ?? 0,
    metricsPath: run.metrics,
    checkpointEvery: checkpoint.every,
    checkpoint: async (step, seconds) => {
      await saveState(run.checkpoints, parts, { step, seconds, cache });
      await pruneCheckpoints(run.checkpoints, checkpoint.keep);
    },
    validation: validation && every ? { every, measure: (step) => validation.measure(step) } : undefined,
    sampling: samples && samplesEvery ? { every: samplesEvery, draw: (step) => samples.draw(step) } : undefined,
    requests,
    saveNow: async (step) => {
      const path = join(run.path, 'saves', studentName(recipe, stepName(step)));
      await mkdir(dirname(path), { recursive: true });
      await saveStudent(path, recipe, parts);
      progress.log(`step ${step}: checkpoint and ${path}`);
    },
    signal,
    progress,
  });
  if (result.interrupted) throw interruptedError();
  await saveStudent(run.student, recipe, parts);
  const { step, loss, seconds, figures } = result;
  return { folder: run.path, student: run.student, step, loss, seconds, figures, validation: result.validation };
}
