import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureCache, type OpenedCache } from '../cache/index.ts';
import type { Engine, ProfiledOperation } from '../native/index.ts';
import { type Progress, silentProgress } from '../progress.ts';
import { loadRecipe, type ResolvedRecipe } from '../recipe/index.ts';
import { assemble } from '../train/assemble.ts';
import { runLoop } from '../train/loop.ts';
import { Trainer, type TrainerParts } from '../train/trainer.ts';
import { type Measurement, peakBytes } from './measure.ts';
import { withoutModel } from './zero-cost.ts';

/** Seconds of one update, by what took them. */
export interface StepParts {
  /** The engine's wait for records of the cache. */
  readonly reading: number;
  readonly forward: number;
  readonly backward: number;
  /** The norm of the gradients, and scaling them. */
  readonly clip: number;
  readonly optimizer: number;
  readonly ema: number;
  /** Everything else: noise, weights that are packed anew, queues, metrics, opening and closing their file. */
  readonly rest: number;
}

/** What a training step costs. */
export interface StepMeasurement {
  /** The loop around a model, an optimizer and an average that cost nothing. */
  readonly loop: Measurement;
  /** The whole step. */
  readonly step: Measurement & { readonly parts: StepParts };
}

/** Updates before those that count. */
const WARM_UP = 3;
/** The same of the loop alone: V8 has compiled it by then, as it has for nearly all of a training's thousands of updates. */
const LOOP_WARM_UP = 1000;
/** Names of the parts in a profile; what has another name belongs to the model and its loss. */
const NAMED = { clip: 'clip', optimizer: 'adamw', ema: 'ema' } as const;

/**
 * Times the updates of a training as `potstill train` runs them: with batches from a cache on disk, moving average and
 * metrics. Validation, samples and checkpoints are left out.
 */
export class StepBenchmark {
  readonly #engine: Engine;
  readonly #folder: string;
  readonly #cache: OpenedCache;
  readonly #parts: TrainerParts;

  private constructor(engine: Engine, folder: string, cache: OpenedCache, parts: TrainerParts) {
    this.#engine = engine;
    this.#folder = folder;
    this.#cache = cache;
    this.#parts = parts;
  }

  /**
   * Builds the cache, in a folder of its own that {@link StepBenchmark.dispose} removes.
   *
   * @param demo folder of the demo's models, pictures and recipes
   */
  static async create(
    engine: Engine,
    demo: string,
    options: { readonly progress?: Progress; readonly signal?: AbortSignal } = {},
  ): Promise<StepBenchmark> {
    const folder = await mkdtemp(join(tmpdir(), 'potstill-bench-'));
    try {
      const recipe = await recipeOf(demo, folder);
      const cache = await ensureCache(recipe, engine, options);
      return new StepBenchmark(engine, folder, cache, (await assemble(engine, recipe, cache)).parts);
    } catch (thrown) {
      await rm(folder, { recursive: true });
      throw thrown;
    }
  }

  /** Runs the loop alone, then the whole step. */
  async measure(iterations: number, signal: AbortSignal = new AbortController().signal): Promise<StepMeasurement> {
    const bare = new Trainer({ ...withoutModel(this.#parts), steps: Number.POSITIVE_INFINITY });
    const whole = new Trainer({ ...this.#parts, steps: Number.POSITIVE_INFINITY });
    const loop = await this.#measurement(bare, { iterations, warmUp: LOOP_WARM_UP }, signal);
    const step = await this.#measurement(whole, { iterations, warmUp: WARM_UP }, signal);
    return { loop: loop.measurement, step: { ...step.measurement, parts: step.parts } };
  }

  /** Frees the models and removes the cache. */
  async dispose(): Promise<void> {
    const { student, optimizers, ema } = this.#parts;
    student.unet.dispose();
    student.schedule.dispose();
    optimizers.student.dispose();
    ema?.dispose();
    await rm(this.#folder, { recursive: true });
  }

  async #measurement(
    trainer: Trainer,
    count: UpdateCount,
    signal: AbortSignal,
  ): Promise<{ readonly measurement: Measurement; readonly parts: StepParts }> {
    const engine = this.#engine;
    const { seconds } = await this.#run(trainer, count, signal);
    const peak = peakBytes();
    const { reader } = this.#cache;
    const waited = reader.waitedSeconds;
    engine.startProfile();
    const { wallSeconds } = await this.#run(trainer, count, signal);
    const operations = await engine.takeProfile();
    // The profile saw the warm-up and the last update as well, so they are in what it is compared with.
    const updates = updatesOf(count);
    const each = wallSeconds / updates;
    const flops = operations.reduce((sum, operation) => sum + operation.flops, 0) / updates;
    const { threads, kernelClass: kernels } = engine;
    return {
      measurement: { seconds, peakBytes: peak, flops, threads, kernels },
      parts: partsOf(operations, (reader.waitedSeconds - waited) / updates, { each, updates }),
    };
  }

  /** Seconds from the beginning of one update to that of the next, without the warm-up, and those of the whole run. */
  async #run(
    trainer: Trainer,
    count: UpdateCount,
    signal: AbortSignal,
  ): Promise<{ readonly seconds: readonly number[]; readonly wallSeconds: number }> {
    const begun: number[] = [];
    const start = performance.now();
    const steps = updatesOf(count);
    await runLoop({
      update: (number) => {
        begun.push(performance.now());
        return trainer.update(number);
      },
      steps,
      from: 0,
      samplesPerStep: 1,
      secondsBefore: 0,
      metricsPath: join(this.#folder, 'metrics.jsonl'),
      checkpointEvery: steps,
      checkpoint: () => Promise.resolve(),
      validation: undefined,
      sampling: undefined,
      signal,
      progress: silentProgress,
    });
    signal.throwIfAborted();
    const wallSeconds = (performance.now() - start) / 1000;
    const counted = begun.slice(count.warmUp);
    const seconds = counted.slice(1).map((time, index) => (time - (counted[index] ?? time)) / 1000);
    return { seconds, wallSeconds };
  }
}

/** Updates that are timed, and those before them. */
interface UpdateCount {
  readonly iterations: number;
  readonly warmUp: number;
}

/** All that a run makes: the time of an update ends where the next begins. */
function updatesOf({ iterations, warmUp }: UpdateCount): number {
  return warmUp + iterations + 1;
}

function partsOf(
  operations: readonly ProfiledOperation[],
  reading: number,
  { each, updates }: { readonly each: number; readonly updates: number },
): StepParts {
  const sum = (isAsked: (operation: ProfiledOperation) => boolean): number =>
    operations.filter(isAsked).reduce((total, { seconds }) => total + seconds, 0) / updates;
  const named = Object.values<string>(NAMED);
  const parts = {
    reading,
    forward: sum(({ op, backward }) => !backward && !named.includes(op)),
    backward: sum(({ backward }) => backward),
    clip: sum(({ op }) => op === NAMED.clip),
    optimizer: sum(({ op }) => op === NAMED.optimizer),
    ema: sum(({ op }) => op === NAMED.ema),
  };
  return { ...parts, rest: each - Object.values(parts).reduce((total, value) => total + value, 0) };
}

/** The demo's training with a moving average, on the few pictures that it holds out: their cache is made in seconds. */
async function recipeOf(demo: string, folder: string): Promise<ResolvedRecipe> {
  const images = join(demo, 'images', 'nature-held-out');
  const set = [
    `data=${JSON.stringify([{ images, captions: 'jsonl', size: [128, 128] }])}`,
    `cache.dir=${join(folder, 'cache')}`,
    `output=${join(folder, 'run')}`,
    'training.ema={"decay":0.9999}',
  ];
  return (await loadRecipe(join(demo, 'recipes', 'demo.json'), { set })).recipe;
}
