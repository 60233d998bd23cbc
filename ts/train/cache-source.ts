import type { DataScan } from '../cache/data/scan.ts';
import type { CachedPair, CachedRow, CacheReader } from '../cache/reader.ts';
import type { BatchRow } from '../data/batches.ts';
import { drawTimestep } from '../data/draws.ts';
import type { Sample } from '../data/entries.ts';
import type { Batch, CacheField, TeacherPredictions } from '../methods/define.ts';
import { type Engine, noise, type Schedule, Tensor } from '../native/index.ts';
import type { BatchSource } from './source.ts';

/** Caption 0 of every text component is the empty one: what a dropped caption becomes. */
const UNCONDITIONAL = 0;

/** What a {@link CacheSource} reads from and how. */
export interface CacheSourceOptions {
  readonly engine: Engine;
  readonly reader: CacheReader;
  readonly scan: DataScan;
  /** The scan's training samples; rows count in them. */
  readonly samples: readonly Sample[];
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

  keyOf(row: BatchRow): string {
    return this.#options.samples[row.sample]?.key ?? `sample ${row.sample}`;
  }

  load(rows: readonly BatchRow[]): Batch {
    const { engine, reader, schedule, fields } = this.#options;
    const pairs = rows.map((row) => this.#pair(row));
    const latents = reader.latents(pairs.map(({ view }) => view));
    const cached = rows.map((row) => this.#cachedRow(row));
    const [plan] = reader.plans.teachers;
    const draws = fields.length > 0 && plan !== undefined ? reader.draws(plan, cached) : this.#fresh(rows, latents);
    return {
      size: rows.length,
      latents,
      ...draws,
      noisy: schedule.addNoise(latents, draws.noise, draws.timesteps),
      text: reader.text(pairs),
      teachers: fields.length > 0 ? this.#teachers(cached) : [],
      perRow: (values) => Tensor.fromArray(engine, Float32Array.from(values), [values.length, 1, 1, 1]),
    };
  }

  /** The view of a row and the caption that is put to it. */
  #pair({ sample, caption, dropped }: BatchRow): CachedPair {
    const { training, samples } = this.#options.scan;
    const own = samples[training[sample]?.sample ?? -1];
    const captioned = samples[training[caption]?.sample ?? -1];
    if (own === undefined || captioned === undefined) throw new RangeError(`sample ${sample} is not in the data`);
    return { view: own.view, caption: dropped ? UNCONDITIONAL : captioned.caption };
  }

  #cachedRow({ sample, draw, dropped }: BatchRow): CachedRow {
    return { sample: this.#options.scan.training[sample]?.sample ?? -1, draw, unconditional: dropped };
  }

  #teachers(rows: readonly CachedRow[]): TeacherPredictions[] {
    const { reader, schedule, fields, weights } = this.#options;
    return reader.plans.teachers.map(({ id, prediction: kind }) => ({
      id,
      weight: weights.get(id) ?? 0,
      cond: { kind, schedule, tensor: reader.predictions(id, rows, 'cond') },
      uncond: fields.includes('uncond')
        ? { kind, schedule, tensor: reader.predictions(id, rows, 'uncond') }
        : undefined,
    }));
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
