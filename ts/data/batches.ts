import { BucketOrder } from './buckets.ts';
import { type Entry, expandEntries, type Sample } from './entries.ts';
import { DataOrder } from './order.ts';
import { deriveSeed, seedOf, uniforms } from './philox.ts';

/** One row of a batch, before any tensor exists. */
export interface BatchRow extends Entry {
  /** Index of the sample whose caption is used: the row's own, except where captions are shuffled on purpose. */
  readonly caption: number;
  /** Whether the caption is replaced by the unconditional text. */
  readonly dropped: boolean;
  /** Seed of fresh noise and timestep for this row of this step. */
  readonly drawSeed: bigint;
  /** Number and count of the stratum that a fresh timestep is drawn from. */
  readonly stratum: readonly [k: number, of: number];
}

/** What fixes the data of a run; the same options give the same batches on any machine. */
export interface BatchPlanOptions {
  readonly samples: readonly Sample[];
  /** Indices of the samples to use. */
  readonly among: readonly number[];
  readonly seed: number;
  /** Rows of a batch. */
  readonly batch: number;
  /** Cached draws per sample, 1 when the method draws afresh. */
  readonly draws: number;
}

/**
 * Batches as a pure function of their number: order, caption dropout and fresh draws depend on the seed and the row's
 * position in the run only, so a resumed run needs the step and nothing else.
 */
export class BatchPlan {
  readonly #options: BatchPlanOptions;
  readonly #buckets: readonly Bucket[];
  readonly #order: BucketOrder;

  constructor(options: BatchPlanOptions) {
    this.#options = options;
    this.#buckets = bucketsOf(options);
    const lengths = this.#buckets.map(({ entries }) => entries.length);
    this.#order = new BucketOrder(options.seed, lengths, options.batch);
  }

  /** Entries in one epoch. */
  get epochLength(): number {
    return this.#buckets.reduce((sum, { entries }) => sum + entries.length, 0);
  }

  /** The rows of the batch with this number, from 0 over the whole run: all of one size. */
  rows(number: number): BatchRow[] {
    const { samples, seed, batch } = this.#options;
    const { bucket: index, ordinal } = this.#order.at(number);
    const bucket = this.#buckets[index];
    return Array.from({ length: batch }, (_, row) => {
      const position = number * batch + row;
      const entry = bucket?.entries[bucket.order.at(ordinal * batch + row)];
      if (entry === undefined) throw new RangeError(`position ${position} lies outside of the data`);
      const chance = samples[entry.sample]?.captionDropout ?? 0;
      const dropped = chance > 0 && (uniforms(seedOf('dropout', seed, position), 1)[0] ?? 0) < chance;
      return {
        ...entry,
        caption: entry.sample,
        dropped,
        drawSeed: seedOf('draw', seed, position),
        stratum: [0, 1],
      };
    });
  }
}

/** Entries of one size, and the order in which a run visits them. */
interface Bucket {
  readonly entries: readonly Entry[];
  readonly order: DataOrder;
}

/** The buckets, in the order of their sizes' names. */
function bucketsOf({ samples, among, draws, seed }: BatchPlanOptions): Bucket[] {
  const sizes = [...new Set(among.map((index) => samples[index]?.size ?? ''))].sort();
  return sizes.map((size) => {
    const ofSize = among.filter((index) => samples[index]?.size === size);
    const entries = expandEntries(samples, ofSize, draws);
    // Data of one size is visited in the order of the seed alone; buckets in orders that have nothing to do with each other.
    return {
      entries,
      order: new DataOrder(sizes.length === 1 ? seed : deriveSeed('bucket', seed, size), entries.length),
    };
  });
}
