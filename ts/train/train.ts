import { ensureCache } from '../cache/index.ts';
import { interruptedError } from '../errors.ts';
import { requireTrainingMemory } from '../machine/index.ts';
import { type Engine, loadEngine } from '../native/index.ts';
import type { Progress } from '../progress.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { type Assembly, assemble } from './assemble.ts';
import { pruneCheckpoints } from './checkpoints.ts';
import { runLoop } from './loop.ts';
import { openRunFolder, type RunFolder } from './run-folder.ts';
import { RunSamples } from './run-samples.ts';
import { saveStudent } from './save-student.ts';
import { readSeals, type Seals } from './seals.ts';
import { loadState, saveState } from './state.ts';
import { Trainer } from './trainer.ts';
import type { ValidationFigures } from './validation.ts';

/** How {@link train} runs. */
export interface TrainOptions {
  /** Go on from the newest checkpoint in the run's folder. */
  readonly resume: boolean;
  readonly progress: Progress;
  /** Once aborted, the step under way is finished and a checkpoint written. */
  readonly signal: AbortSignal;
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
  await requireTrainingMemory(recipe);
  const run = await openRunFolder(recipe.output, recipe, resume);
  const engine = options.engine ?? (await loadEngine());
  const cache = await ensureCache(recipe, engine, { progress, signal });
  const assembly = await assemble(engine, recipe, cache);
  try {
    const seals = await readSeals(cache, recipe.student.model, { progress, signal });
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

/** Frees what a run has taken: the weights, and several times their size of state. */
function dispose({ parts: { student, lora, optimizers, ema } }: Assembly): void {
  lora?.dispose();
  student.unet.dispose();
  student.schedule.dispose();
  for (const optimizer of Object.values(optimizers)) optimizer.dispose();
  ema?.dispose();
}

async function samplesOf(
  engine: Engine,
  { student: { model }, sampling }: ResolvedRecipe,
  { samples: folder }: RunFolder,
  { parts }: Assembly,
  { progress, signal }: TrainOptions,
): Promise<RunSamples | undefined> {
  if (sampling === undefined) return undefined;
  return RunSamples.open({ engine, model, sampling, folder, parts, progress, signal });
}

async function trainIn(
  run: RunFolder,
  recipe: ResolvedRecipe,
  { parts, validation, samples }: Assembly & { readonly samples: RunSamples | undefined },
  cache: Seals,
  { progress, signal }: TrainOptions,
): Promise<TrainResult> {
  const { checkpoint, batch, accumulation } = recipe.training;
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
    signal,
    progress,
  });
  if (result.interrupted) throw interruptedError();
  await saveStudent(run.student, recipe, parts);
  const { step, loss, seconds } = result;
  return { folder: run.path, student: run.student, step, loss, seconds, validation: result.validation };
}
