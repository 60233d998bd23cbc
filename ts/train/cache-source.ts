import type { CachedText, OpenedCache } from '../cache/index.ts';
import type { BatchRow } from '../data/batches.ts';
import { drawTimestep } from '../data/draws.ts';
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
  /** Raw predictions that the method reads; none means fresh draws. */
  readonly fields: readonly CacheField[];
  /** Share of each teacher in the target, by id; they sum to 1. */
  readonly weights: ReadonlyMap<string, number>;
  /** Range of fresh timesteps, the end excluded. */
  readonly timesteps: readonly [number, number];
}

/** Batches from the caches: what is stored is read on the engine's thread, the noise derived or drawn afresh there. */
export class CacheSource implements BatchSource {
  readonly #options: CacheSourceOptions;

  constructor(options: CacheSourceOptions) {
    this.#options = options;
  }

  keyOf({ sample }: BatchRow): string {
    return this.#options.cache.samples[sample]?.key ?? `sample ${sample}`;
  }

  load(rows: readonly BatchRow[]): Batch {
    const { engine, cache, schedule, fields, weights } = this.#options;
    const requests = rows.map(({ sample, draw, dropped }) => ({ sample, draw, unconditional: dropped }));
    const stored = cache.batch(requests, fields);
    const draws =
      stored.noise !== undefined && stored.timesteps !== undefined
        ? { noise: stored.noise, timesteps: stored.timesteps }
        : this.#fresh(rows, stored.latents);
    const read = (kind: PredictionKind, tensor: Tensor): Prediction => ({ kind, schedule, tensor });
    return {
      size: rows.length,
      latents: stored.latents,
      ...draws,
      noisy: schedule.addNoise(stored.latents, draws.noise, draws.timesteps),
      text: rows.every(({ sample, caption }) => sample === caption) ? stored.text : this.#text(rows),
      teachers: stored.teachers.flatMap(({ id, kind, cond, uncond }) =>
        cond === undefined
          ? []
          : {
              id,
              weight: weights.get(id) ?? 0,
              cond: read(kind, cond),
              uncond: uncond === undefined ? undefined : read(kind, uncond),
            },
      ),
      perRow: (values) => Tensor.fromArray(engine, Float32Array.from(values), [values.length, 1, 1, 1]),
    };
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
    const { engine, timesteps } = this.#options;
    const seeds = rows.map(({ drawSeed }) => drawSeed);
    return {
      noise: noise(engine, { generator: 'philox', seeds, shape }),
      timesteps: Float64Array.from(rows, ({ drawSeed, stratum: [k, of] }) => drawTimestep(drawSeed, timesteps, k, of)),
    };
  }
}
