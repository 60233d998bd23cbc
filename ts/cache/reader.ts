import { inputError } from '../errors.ts';
import type { Engine } from '../native/engine.ts';
import { noise } from '../native/noise.ts';
import type { Shape } from '../native/shape.ts';
import { Tensor } from '../native/tensor.ts';
import { componentName, componentState } from './component.ts';
import { type Size, sizeOfView } from './data/view.ts';
import { drawsOf } from './draws.ts';
import { CacheFiles, type StoredRows } from './files.ts';
import { placeIn } from './place.ts';
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
  /** The captions themselves. */
  readonly prompts: readonly string[];
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
        where: placeIn(plans.dir, componentName(plan)),
        remedy: 'Run `potstill cache build` with the recipe.',
      });
    }
    const teachers = plans.teachers.map(({ id }) => id);
    return new CacheReader(engine, plans, await CacheFiles.open(engine, plans.dir, teachers));
  }

  /** Size of a view's picture in pixels. */
  sizeOf(view: number): Size {
    return sizeOfView(this.#view(view).view);
  }

  /** Latents of views of one size, [B, 4, h, w]. */
  latents(views: readonly number[]): Tensor {
    return this.#read(this.#latents(views));
  }

  /** Text of captions, with SDXL's size conditioning for the views that they are put to. */
  text(pairs: readonly CachedPair[]): CachedText {
    const [hidden, pooled] = this.#text(pairs.map(({ caption }) => caption));
    const encoderHiddenStates = this.#read(hidden);
    const prompts = pairs.map(({ caption }) => this.plans.text.captions[caption] ?? '');
    if (pooled === undefined) return { encoderHiddenStates, prompts };
    const timeIds = pairs.flatMap(({ view }) => {
      const size = this.sizeOf(view);
      return [size.height, size.width, 0, 0, size.height, size.width];
    });
    return {
      encoderHiddenStates,
      prompts,
      textEmbeds: this.#read(pooled),
      timeIds: Tensor.fromArray(this.#engine, timeIds, [pairs.length, TIME_IDS]),
    };
  }

  /** The cached draws of a teacher's plan; every teacher of a recipe has the same. */
  draws(plan: TeacherPlan, rows: readonly Pick<CachedRow, 'sample' | 'draw'>[]): CachedDraws {
    const keys = rows.map(({ sample, draw }) => ({ ...this.#view(plan.samples[sample]?.[0] ?? -1), draw }));
    const { generator } = plan.noise;
    if (generator === 'stored') return this.#givenDraws(plan, rows);
    const { seeds, timesteps } = drawsOf(plan, keys);
    const [, ...shape] = this.#latentShape(rows.length, plan.samples[rows[0]?.sample ?? 0]?.[0] ?? -1);
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
    return this.#read(this.#predictions(teacher, rows, field));
  }

  /**
   * Begins to read what a batch of these rows will need, on threads beside the engine's; the tensors are then asked for as
   * if nothing had been read.
   *
   * @param teachers whose predictions, and stored noise, are needed
   */
  readAhead(
    rows: readonly (CachedRow & CachedPair)[],
    teachers: readonly TeacherPlan[],
    fields: readonly PredictionField[],
  ): void {
    const [drawing] = teachers;
    const stored = [
      this.#latents(rows.map(({ view }) => view)),
      ...this.#text(rows.map(({ caption }) => caption)),
      ...(drawing?.noise.generator === 'stored' ? [this.#storedNoise(drawing, rows)] : []),
      ...teachers.flatMap(({ id }) => fields.map((field) => this.#predictions(id, rows, field))),
    ];
    for (const one of stored) if (one !== undefined) this.#files.readAhead(one);
  }

  /** Seconds that the engine has waited for records so far. */
  get waitedSeconds(): number {
    return this.#files.waitedSeconds;
  }

  #read(rows: StoredRows): Tensor {
    return this.#files.read(this.#engine, rows);
  }

  #latents(views: readonly number[]): StoredRows {
    const shape = this.#latentShape(views.length, views[0] ?? 0);
    return { component: 'latents', shape, records: views, fields: ['latents'] };
  }

  /** Hidden states, and SDXL's pooled text. */
  #text(captions: readonly number[]): readonly [hidden: StoredRows, pooled?: StoredRows] {
    const { tokens, width, pooled } = this.plans.text.shape;
    const rows = (field: string, shape: Shape): StoredRows => ({
      component: 'text',
      shape: [captions.length, ...shape],
      records: captions,
      fields: [field],
    });
    const hidden = rows('encoder_hidden_states', [tokens, width]);
    return pooled === undefined ? [hidden] : [hidden, rows('pooled', [pooled])];
  }

  #predictions(teacher: string, rows: readonly CachedRow[], field: PredictionField): StoredRows {
    const plan = this.#teachers.get(teacher);
    if (plan === undefined) throw new RangeError(`teacher ${teacher} was not opened`);
    const shape = this.#latentShape(
      rows.length,
      this.pairOf(plan, rows[0] ?? { sample: 0, unconditional: false }).view,
    );
    const fields = rows.map(({ unconditional }) => (unconditional ? 'uncond' : field));
    return { component: `teachers/${teacher}`, shape, records: recordsOf(plan, rows), fields };
  }

  #storedNoise(plan: TeacherPlan, rows: readonly Pick<CachedRow, 'sample' | 'draw'>[]): StoredRows {
    const shape = this.#latentShape(rows.length, plan.samples[rows[0]?.sample ?? 0]?.[0] ?? -1);
    return { component: `teachers/${plan.id}`, shape, records: recordsOf(plan, rows), fields: ['noise'] };
  }

  #givenDraws(plan: TeacherPlan, rows: readonly Pick<CachedRow, 'sample' | 'draw'>[]): CachedDraws {
    const timesteps = recordsOf(plan, rows).map((record) => {
      const given = plan.given?.[record];
      if (given === undefined) throw new RangeError(`record ${record} has no draw in the plan`);
      return given.timestep;
    });
    return { noise: this.#read(this.#storedNoise(plan, rows)), timesteps: Float64Array.from(timesteps) };
  }

  /** [rows, 4, h, w] of latents of a view. */
  #latentShape(rows: number, view: number): Shape {
    const { channels, downscale } = this.plans.latents.vae;
    const { width, height } = this.sizeOf(view);
    return [rows, channels, height / downscale, width / downscale];
  }

  #view(index: number): LatentsPlan['views'][number] {
    const view = this.plans.latents.views[index];
    if (view === undefined) throw new RangeError(`view ${index} is not in the plan`);
    return view;
  }
}

/** Records of rows among a teacher's predictions. */
function recordsOf(plan: TeacherPlan, rows: readonly Pick<CachedRow, 'sample' | 'draw'>[]): number[] {
  return rows.map(({ sample, draw }) => sample * plan.draws + draw);
}

/** Numbers of SDXL's size conditioning. */
const TIME_IDS = 6;
