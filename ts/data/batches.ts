import { type Entry, expandEntries, type Sample } from './entries.ts';
import { DataOrder } from './order.ts';
import { seedOf, uniforms } from './philox.ts';

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
  readonly #entries: readonly Entry[];
  readonly #order: DataOrder;

  constructor(options: BatchPlanOptions) {
    this.#options = options;
    this.#entries = expandEntries(options.samples, options.among, options.draws);
    this.#order = new DataOrder(options.seed, this.#entries.length);
  }

  /** Entries in one epoch. */
  get epochLength(): number {
    return this.#order.length;
  }

  /** The rows of the batch with this number, from 0 over the whole run. */
  rows(number: number): BatchRow[] {
    const { samples, seed, batch } = this.#options;
    return Array.from({ length: batch }, (_, row) => {
      const position = number * batch + row;
      const entry = this.#entries[this.#order.at(position)];
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
