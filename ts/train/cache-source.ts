import { loadPixels } from '../cache/images.ts';
import type { BatchRequest, CachedText, OpenedCache } from '../cache/index.ts';
import type { BatchRow } from '../data/batches.ts';
import type { TimestepDistribution } from '../data/distribution.ts';
import { drawTimestep } from '../data/draws.ts';
import { seedOf } from '../data/philox.ts';
import type { Batch, CacheField } from '../methods/define.ts';
import type { Prediction } from '../methods/prediction.ts';
import { type Engine, noise, type PredictionKind, type Schedule, Tensor } from '../native/index.ts';
import type { BatchSource } from './source.ts';

/** What a {@link CacheSource} reads from and how. */
export interface CacheSourceOptions {
  readonly engine: Engine;
  readonly cache: OpenedCache;
  /** Schedule of the student; the teachers' are the same. */
  readonly schedule: Schedule;
  /** Raw predictions that each of the recipe's methods reads; none means fresh draws. */
  readonly fields: readonly (readonly CacheField[])[];
  /** Where methods compare teachers with their models: under which id each is cached without its adapters. */
  readonly bases: ReadonlyMap<string, string>;
  /** Share of each teacher in the target, by id; they sum to 1. */
  readonly weights: ReadonlyMap<string, number>;
  /** Range of fresh timesteps, the end excluded. */
  readonly timesteps: readonly [number, number];
  /** How fresh timesteps are spread over it. */
  readonly distribution: TimestepDistribution;
  /** Factor on one more random number per channel in fresh noise. */
  readonly noiseOffset: number;
}

/** Batches from the caches: what is stored is read on threads of its own, the noise derived or drawn afresh on the engine's. */
export class CacheSource implements BatchSource {
  readonly #options: CacheSourceOptions;

  constructor(options: CacheSourceOptions) {
    this.#options = options;
  }

  keyOf({ sample }: BatchRow): string {
    return this.#options.cache.samples[sample]?.key ?? `sample ${sample}`;
  }

  load(rows: readonly BatchRow[]): Batch {
    const { engine, cache, schedule, weights, bases } = this.#options;
    const fields = this.#fieldsOf(rows);
    const stored = cache.batch(requestsOf(rows), fields);
    const draws =
      stored.noise !== undefined && stored.timesteps !== undefined
        ? { noise: stored.noise, timesteps: stored.timesteps }
        : this.#fresh(rows, stored.latents);
    const read = (kind: PredictionKind, tensor: Tensor): Prediction => ({ kind, schedule, tensor });
    const predicted = new Map(
      stored.teachers.flatMap(({ id, kind, cond, uncond }) => {
        if (cond === undefined) return [];
        return [[id, { cond: read(kind, cond), uncond: uncond === undefined ? undefined : read(kind, uncond) }]];
      }),
    );
    return {
      size: rows.length,
      mask: this.#mask(rows, stored.latents),
      latents: stored.latents,
      ...draws,
      noisy: schedule.addNoise(stored.latents, draws.noise, draws.timesteps),
      unconditional: () => this.#unconditional(rows),
      text: rows.every(({ sample, caption }) => sample === caption) ? stored.text : this.#text(rows),
      teachers: [...predicted].flatMap(([id, predictions]) => {
        const weight = weights.get(id);
        return weight === undefined ? [] : { id, weight, ...predictions, base: predicted.get(bases.get(id) ?? '') };
      }),
      perRow: (values) => Tensor.fromArray(engine, Float32Array.from(values), [values.length, 1, 1, 1]),
    };
  }

  readAhead(rows: readonly BatchRow[]): void {
    this.#options.cache.readAhead(requestsOf(rows), this.#fieldsOf(rows));
  }

  /** What the method of a batch's rows reads. */
  #fieldsOf(rows: readonly BatchRow[]): readonly CacheField[] {
    return this.#options.fields[rows[0]?.part ?? 0] ?? [];
  }

  /** The masks of rows that have them, at the latents' size: the mean over each latent's pixels. */
  #mask(rows: readonly BatchRow[], latents: Tensor): Tensor | undefined {
    const { engine, cache } = this.#options;
    const views = rows.flatMap(({ sample }) => cache.samples[sample]?.mask ?? []);
    if (views.length === 0) return undefined;
    const [batch = 0, , height = 0, width = 0] = latents.shape;
    const pixels = loadPixels(engine, views);
    const [, , tall = 0, wide = 0] = pixels.shape;
    return pixels
      .mean([1], false)
      .affine(0.5, 0.5)
      .reshape([batch, 1, height, tall / height, width, wide / width])
      .mean([3, 5], false);
  }

  /** Text of rows without their captions: the first of every text plan is the empty one. */
  #unconditional(rows: readonly BatchRow[]): CachedText {
    const { samples, reader } = this.#options.cache;
    return reader.text(rows.map(({ sample }) => ({ view: samples[sample]?.view ?? -1, caption: 0 })));
  }

  /** Text of rows of which some have another sample's caption. */
  #text(rows: readonly BatchRow[]): CachedText {
    const { samples, reader } = this.#options.cache;
    return reader.text(
      rows.map(({ sample, caption }) => {
        const [own, captioned] = [samples[sample], samples[caption]];
        if (own === undefined || captioned === undefined) throw new RangeError(`sample ${sample} is not in the cache`);
        return { view: own.view, caption: captioned.caption };
      }),
    );
  }

  /** Noise and timesteps that no cache holds. */
  #fresh(rows: readonly BatchRow[], { shape: [, ...shape] }: Tensor): { noise: Tensor; timesteps: Float64Array } {
    const { engine, timesteps, distribution } = this.#options;
    const seeds = rows.map(({ drawSeed }) => drawSeed);
    const plain = noise(engine, { generator: 'philox', seeds, shape });
    return {
      noise: this.#offset(plain, seeds),
      timesteps: Float64Array.from(rows, ({ drawSeed, stratum: [k, of] }) =>
        drawTimestep(drawSeed, timesteps, k, of, distribution),
      ),
    };
  }

  /** Noise with an offset of each channel: ε + noiseOffset·z, z [B, C, 1, 1] standard normal. */
  #offset(plain: Tensor, seeds: readonly bigint[]): Tensor {
    const { engine, noiseOffset } = this.#options;
    if (noiseOffset === 0) return plain;
    const own = seeds.map((seed) => seedOf('noise offset', String(seed)));
    const channels = plain.shape[1] ?? 0;
    return plain.add(noise(engine, { generator: 'philox', seeds: own, shape: [channels, 1, 1] }).scale(noiseOffset));
  }
}

function requestsOf(rows: readonly BatchRow[]): BatchRequest[] {
  return rows.map(({ sample, draw, dropped }) => ({ sample, draw, unconditional: dropped }));
}
