import { join } from 'node:path';
import { inputError } from '../errors.ts';
import type { Engine } from '../native/engine.ts';
import { noise } from '../native/noise.ts';
import type { Shape } from '../native/shape.ts';
import { Tensor } from '../native/tensor.ts';
import { componentName, componentState } from './component.ts';
import { type Size, sizeOfView } from './data/view.ts';
import { drawsOf } from './draws.ts';
import { CacheFiles } from './files.ts';
import type { LatentsPlan, PredictionField, TeacherPlan, TextPlan } from './plan/types.ts';

/** Plans of the components that are read. */
export interface ReaderPlans {
  readonly dir: string;
  readonly latents: LatentsPlan;
  readonly text: TextPlan;
  readonly teachers: readonly TeacherPlan[];
}

/** A view with a caption, as indices into the plans' lists. */
export interface CachedPair {
  readonly view: number;
  readonly caption: number;
}

/** Encoded captions, a row each. */
export interface CachedText {
  /** [B, 77, d]. */
  readonly encoderHiddenStates: Tensor;
  /** SDXL's pooled text, [B, p]. */
  readonly textEmbeds?: Tensor | undefined;
  /** SDXL's size conditioning, [B, 6]. */
  readonly timeIds?: Tensor | undefined;
}

/** One row of a batch. */
export interface CachedRow {
  /** Index into the samples of the teachers' plans. */
  readonly sample: number;
  /** Which of the cached draws. */
  readonly draw: number;
  /** Takes the unconditional text and predictions instead of the caption's. */
  readonly unconditional: boolean;
}

/** Noise and timesteps of rows. */
export interface CachedDraws {
  /** Unit noise, [B, 4, h, w]. */
  readonly noise: Tensor;
  readonly timesteps: Float64Array;
}

/** Caption 0 of every text plan is the empty one. */
const UNCONDITIONAL = 0;

/**
 * Reads records of a cache as tensors. Every method enqueues and returns at once; the bytes are read and converted on the
 * engine's thread, without a copy in JavaScript, and the tensors belong to the current scope.
 */
export class CacheReader {
  readonly plans: ReaderPlans;
  readonly #engine: Engine;
  readonly #files: CacheFiles;
  readonly #teachers: ReadonlyMap<string, TeacherPlan>;

  private constructor(engine: Engine, plans: ReaderPlans, files: CacheFiles) {
    this.#engine = engine;
    this.plans = plans;
    this.#files = files;
    this.#teachers = new Map(plans.teachers.map((plan) => [plan.id, plan]));
  }

  /**
   * Opens sealed components; nothing but plans, seals and headers is read.
   *
   * @throws PotstillError when a component is missing, not sealed, or of another plan
   */
  static async open(engine: Engine, plans: ReaderPlans): Promise<CacheReader> {
    for (const plan of [plans.latents, plans.text, ...plans.teachers]) {
      if ((await componentState(plans.dir, plan)) === 'sealed') continue;
      throw inputError('ERR_CACHE_UNSEALED', 'is not built to its end', {
        where: join(plans.dir, componentName(plan)),
        remedy: 'Run `potstill cache build` with the recipe.',
      });
    }
    const teachers = plans.teachers.map(({ id }) => id);
    return new CacheReader(engine, plans, await CacheFiles.open(plans.dir, teachers));
  }

  /** Size of a view's picture in pixels. */
  sizeOf(view: number): Size {
    return sizeOfView(this.#view(view).view);
  }

  /** Latents of views of one size, [B, 4, h, w]. */
  latents(views: readonly number[]): Tensor {
    const { channels, downscale } = this.plans.latents.vae;
    const { width, height } = this.sizeOf(views[0] ?? 0);
    const shape = [views.length, channels, height / downscale, width / downscale];
    return this.#files.read(this.#engine, 'latents', shape, views, ['latents']);
  }

  /** Text of captions, with SDXL's size conditioning for the views that they are put to. */
  text(pairs: readonly CachedPair[]): CachedText {
    const { tokens, width, pooled } = this.plans.text.shape;
    const captions = pairs.map(({ caption }) => caption);
    const encoderHiddenStates = this.#files.read(this.#engine, 'text', [pairs.length, tokens, width], captions, [
      'encoder_hidden_states',
    ]);
    if (pooled === undefined) return { encoderHiddenStates };
    const timeIds = pairs.flatMap(({ view }) => {
      const size = this.sizeOf(view);
      return [size.height, size.width, 0, 0, size.height, size.width];
    });
    return {
      encoderHiddenStates,
      textEmbeds: this.#files.read(this.#engine, 'text', [pairs.length, pooled], captions, ['pooled']),
      timeIds: Tensor.fromArray(this.#engine, timeIds, [pairs.length, TIME_IDS]),
    };
  }

  /** The cached draws of a teacher's plan; every teacher of a recipe has the same. */
  draws(plan: TeacherPlan, rows: readonly Pick<CachedRow, 'sample' | 'draw'>[]): CachedDraws {
    const keys = rows.map(({ sample, draw }) => ({ ...this.#view(plan.samples[sample]?.[0] ?? -1), draw }));
    const { channels, downscale } = this.plans.latents.vae;
    const { width, height } = sizeOfView(keys[0]?.view ?? '');
    const shape = [channels, height / downscale, width / downscale];
    const { generator } = plan.noise;
    if (generator === 'stored') return this.#givenDraws(plan, rows, shape);
    const { seeds, timesteps } = drawsOf(plan, keys);
    return { noise: noise(this.#engine, { generator, seeds, shape }), timesteps };
  }

  /** Pair of view and caption of a row of a batch. */
  pairOf(plan: TeacherPlan, { sample, unconditional }: Pick<CachedRow, 'sample' | 'unconditional'>): CachedPair {
    const [view, caption] = plan.samples[sample] ?? [];
    if (view === undefined || caption === undefined) throw new RangeError(`sample ${sample} is not in the plan`);
    return { view, caption: unconditional ? UNCONDITIONAL : caption };
  }

  /**
   * A teacher's raw predictions, [B, 4, h, w]. Of a row that is `unconditional`, `cond` is the unconditional prediction.
   */
  predictions(teacher: string, rows: readonly CachedRow[], field: PredictionField): Tensor {
    const plan = this.#teachers.get(teacher);
    if (plan === undefined) throw new RangeError(`teacher ${teacher} was not opened`);
    const { channels, downscale } = this.plans.latents.vae;
    const { width, height } = this.sizeOf(this.pairOf(plan, rows[0] ?? { sample: 0, unconditional: false }).view);
    const shape = [rows.length, channels, height / downscale, width / downscale];
    const records = rows.map(({ sample, draw }) => sample * plan.draws + draw);
    const fields = rows.map(({ unconditional }) => (unconditional ? 'uncond' : field));
    return this.#files.read(this.#engine, `teachers/${teacher}`, shape, records, fields);
  }

  #givenDraws(plan: TeacherPlan, rows: readonly Pick<CachedRow, 'sample' | 'draw'>[], shape: Shape): CachedDraws {
    const records = rows.map(({ sample, draw }) => sample * plan.draws + draw);
    const timesteps = records.map((record) => {
      const given = plan.given?.[record];
      if (given === undefined) throw new RangeError(`record ${record} has no draw in the plan`);
      return given.timestep;
    });
    const noise = this.#files.read(this.#engine, `teachers/${plan.id}`, [records.length, ...shape], records, ['noise']);
    return { noise, timesteps: Float64Array.from(timesteps) };
  }

  #view(index: number): LatentsPlan['views'][number] {
    const view = this.plans.latents.views[index];
    if (view === undefined) throw new RangeError(`view ${index} is not in the plan`);
    return view;
  }
}

/** Numbers of SDXL's size conditioning. */
const TIME_IDS = 6;
