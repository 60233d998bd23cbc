import { BucketOrder } from './buckets.ts';
import { bucketOf, type Entry, expandEntries, type Sample } from './entries.ts';
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
  /** Which of the recipe's methods it is trained by: the same for all rows of a batch. */
  readonly part: number;
  /** Factor on its loss; 1 when left out. */
  readonly lossWeight?: number;
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
  /** The orders of a caption, by the first of them: indices of samples. */
  readonly #variants: ReadonlyMap<number, readonly number[]>;

  constructor(options: BatchPlanOptions) {
    this.#options = options;
    this.#buckets = bucketsOf(options);
    this.#variants = variantsOf(options.samples);
    const lengths = this.#buckets.map(({ entries }) => entries.length);
    this.#order = new BucketOrder(options.seed, lengths, options.batch);
  }

  /** Entries in one epoch. */
  get epochLength(): number {
    return this.#buckets.reduce((sum, { entries }) => sum + entries.length, 0);
  }

  /** How many entries an epoch has of each bucket, by its name. */
  get histogram(): ReadonlyMap<string, number> {
    return new Map(this.#buckets.map(({ name, entries }) => [name, entries.length]));
  }

  /** Which order of a sample's caption is trained on at a position of the run. */
  #variantAt(sample: number, position: number): number {
    const variants = this.#variants.get(sample);
    if (variants === undefined) return sample;
    const [u = 0] = uniforms(seedOf('variant', this.#options.seed, position), 1);
    return variants[Math.floor(u * variants.length)] ?? sample;
  }

  /** The rows of the batch with this number, from 0 over the whole run: all of one size. */
  rows(number: number): BatchRow[] {
    const { samples, seed, batch } = this.#options;
    const { bucket: index, ordinal } = this.#order.at(number);
    const bucket = this.#buckets[index];
    return Array.from({ length: batch }, (_, row) => {
      const position = number * batch + row;
      const found = bucket?.entries[bucket.order.at(ordinal * batch + row)];
      if (found === undefined) throw new RangeError(`position ${position} lies outside of the data`);
      const entry = { ...found, sample: this.#variantAt(found.sample, position) };
      const { captionDropout: chance = 0, part = 0, lossWeight = 1 } = samples[entry.sample] ?? {};
      const dropped = chance > 0 && (uniforms(seedOf('dropout', seed, position), 1)[0] ?? 0) < chance;
      return {
        ...entry,
        caption: entry.sample,
        dropped,
        drawSeed: seedOf('draw', seed, position),
        stratum: [0, 1],
        part,
        lossWeight,
      };
    });
  }
}

/** Samples with several orders of their caption, and these. */
function variantsOf(samples: readonly Sample[]): ReadonlyMap<number, readonly number[]> {
  const variants = new Map<number, number[]>();
  for (const [index, { variantOf }] of samples.entries()) {
    if (variantOf !== undefined) variants.set(variantOf, [...(variants.get(variantOf) ?? [variantOf]), index]);
  }
  return variants;
}

/** Entries of one size and method, and the order in which a run visits them. */
interface Bucket {
  readonly name: string;
  readonly entries: readonly Entry[];
  readonly order: DataOrder;
}

/** The buckets, in the order of their sizes' names. */
function bucketsOf({ samples, among, draws, seed }: BatchPlanOptions): Bucket[] {
  const keyOf = (index: number): string => (samples[index] === undefined ? '' : bucketOf(samples[index]));
  const sizes = [...new Set(among.map(keyOf))].sort();
  return sizes.map((size) => {
    const ofSize = among.filter((index) => keyOf(index) === size);
    const entries = expandEntries(samples, ofSize, draws);
    // Data of one size is visited in the order of the seed alone; buckets in orders that have nothing to do with each other.
    return {
      name: size,
      entries,
      order: new DataOrder(sizes.length === 1 ? seed : deriveSeed('bucket', seed, size), entries.length),
    };
  });
}
