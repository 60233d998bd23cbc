import type { ImageView } from '../native/generated/binding.js';
import type { Tensor } from '../native/tensor.ts';
import { sizeOfView } from './data/view.ts';
import type { PredictionField, TeacherPlan } from './plan/types.ts';
import type { CachePlans } from './plan-cache.ts';
import type { CachedPair, CachedRow, CachedText, CacheReader } from './reader.ts';

/** One thing to train on: a view of an image with a caption. */
export interface CachedSample {
  /** Names it in messages: the image's digest, the view and the caption; never a path. */
  readonly key: string;
  /** SHA-256 of the image file, in hex. */
  readonly image: string;
  readonly repeats: number;
  readonly captionDropout: number;
  /** Size of the view, as `WxH` in pixels: rows of a batch share it. */
  readonly size: string;
  /** Index of the recipe's data entry that it comes from. */
  readonly source: number;
  /** Whether that entry is for validation. */
  readonly heldOut: boolean;
  /** Index of the view in the latents' plan. */
  readonly view: number;
  /** Index of the caption in the text's plan. */
  readonly caption: number;
  /** What of the image counts, with the view as the mask's file shows it. */
  readonly mask?: ImageView | undefined;
  /** Index of the sample that it is another order of the caption of. */
  readonly variantOf?: number | undefined;
  /** Index of the pair in the teachers' plans; −1 where no teacher predicts on it. */
  readonly sample: number;
}

/** One row of a batch. */
export interface BatchRequest {
  /** Index into {@link OpenedCache.samples}. */
  readonly sample: number;
  /** Which of the cached draws. */
  readonly draw: number;
  /** Takes the unconditional text, and unconditional predictions as `cond`, in place of the caption's. */
  readonly unconditional: boolean;
}

/** One teacher's raw predictions, [B, 4, h, w] each. */
export interface CachedPredictions {
  readonly id: string;
  readonly kind: TeacherPlan['prediction'];
  readonly cond: Tensor | undefined;
  readonly uncond: Tensor | undefined;
}

/** Rows of a cache as tensors of the current scope. */
export interface CachedBatch {
  /** Scaled latents, [B, 4, h, w]. */
  readonly latents: Tensor;
  readonly text: CachedText;
  /** Unit noise, [B, 4, h, w], and timesteps of the cached draws; absent without teachers. */
  readonly noise: Tensor | undefined;
  readonly timesteps: Float64Array | undefined;
  readonly teachers: readonly CachedPredictions[];
}

/** Caption 0 of every text plan is the empty one. */
const UNCONDITIONAL = 0;

/** A cache that is complete for a recipe: what can be trained on, and its tensors. */
export class OpenedCache {
  readonly plans: CachePlans;
  readonly samples: readonly CachedSample[];
  readonly reader: CacheReader;

  constructor(plans: CachePlans, reader: CacheReader) {
    this.plans = plans;
    this.reader = reader;
    this.samples = samplesOf(plans);
  }

  /** Cached draws per sample; 0 when no teacher is read. */
  get draws(): number {
    return this.plans.teachers[0]?.plan.draws ?? 0;
  }

  /**
   * Assembles rows of one size. Returns at once: the records are read on the engine's thread.
   *
   * @param fields which predictions of every teacher to read; none reads no draws either
   */
  batch(rows: readonly BatchRequest[], fields: readonly PredictionField[]): CachedBatch {
    const { reader } = this;
    const picked = this.#pick(rows);
    const teachers = this.#teachers(fields);
    const draws = teachers[0] === undefined ? undefined : reader.draws(teachers[0], picked);
    return {
      latents: reader.latents(picked.map(({ view }) => view)),
      text: reader.text(picked),
      noise: draws?.noise,
      timesteps: draws?.timesteps,
      teachers: teachers.map(({ id, prediction }) => ({
        id,
        kind: prediction,
        cond: fields.includes('cond') ? reader.predictions(id, picked, 'cond') : undefined,
        uncond: fields.includes('uncond') ? reader.predictions(id, picked, 'uncond') : undefined,
      })),
    };
  }

  /** Begins to read what {@link OpenedCache.batch} of the same rows will need, while the engine does something else. */
  readAhead(rows: readonly BatchRequest[], fields: readonly PredictionField[]): void {
    this.reader.readAhead(this.#pick(rows), this.#teachers(fields), fields);
  }

  /** Where the rows lie. */
  #pick(rows: readonly BatchRequest[]): (CachedRow & CachedPair)[] {
    return rows.map(({ sample, draw, unconditional }) => {
      const found = this.samples[sample];
      if (found === undefined) throw new RangeError(`sample ${sample} is not in the cache`);
      const caption = unconditional ? UNCONDITIONAL : found.caption;
      return { sample: found.sample, view: found.view, caption, draw, unconditional };
    });
  }

  /** Teachers that are read when these fields are. */
  #teachers(fields: readonly PredictionField[]): readonly TeacherPlan[] {
    return fields.length === 0 ? [] : this.plans.teachers.map(({ plan }) => plan);
  }
}

function samplesOf({ scan, predicted }: CachePlans): CachedSample[] {
  const keyOfPair = ({ view, caption }: { view: number; caption: number }): string => `${view}|${caption}`;
  const inPlan = new Map(predicted.map((pair, index) => [keyOfPair(pair), index]));
  return scan.training.map(({ sample, source, repeats, captionDropout, heldOut, mask, variantOf }) => {
    const { view, caption } = scan.samples[sample] ?? { view: -1, caption: -1 };
    const planned = scan.views[view];
    if (planned === undefined) throw new RangeError(`sample ${sample} is in no plan`);
    const { image, view: crop } = planned;
    const key = `${image}|${crop}|${scan.captions[caption] ?? ''}`;
    const { width, height } = sizeOfView(crop);
    const size = `${width}x${height}`;
    const place = { view, caption, sample: inPlan.get(keyOfPair({ view, caption })) ?? -1 };
    return {
      ...{ key, image, repeats, captionDropout, size, source, heldOut, variantOf, ...place },
      mask: mask === undefined ? undefined : { ...mask, view: crop },
    };
  });
}
