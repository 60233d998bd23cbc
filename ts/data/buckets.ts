import { permutation } from './order.ts';
import { deriveSeed } from './philox.ts';

/** A batch as a place in the order of one bucket's entries. */
export interface BucketBatch {
  /** Index of the bucket. */
  readonly bucket: number;
  /** How many batches of this bucket came before. */
  readonly ordinal: number;
}

/**
 * The order in which a run takes batches from buckets: entries of different sizes, which cannot share a batch.
 *
 * Every bucket has an endless order of its own, epoch after epoch, and gives full batches: what is left of a bucket at
 * the end of an epoch begins its first batch of the next one, so nothing is dropped, padded or seen twice. In epoch e a
 * bucket of n entries gives ⌊(e + 1)·n/batch⌋ − ⌊e·n/batch⌋ batches, and an epoch's batches of all buckets are shuffled.
 * Which batch has a number is a pure function of seed, lengths and batch size: resuming needs no stored state.
 */
export class BucketOrder {
  readonly #seed: number;
  readonly #lengths: readonly number[];
  readonly #batch: number;
  #epoch = -1;
  #slots: readonly BucketBatch[] = [];

  /**
   * @param lengths entries of every bucket, each at least 1
   * @param batch rows of a batch
   */
  constructor(seed: number, lengths: readonly number[], batch: number) {
    this.#seed = seed;
    this.#lengths = lengths;
    this.#batch = batch;
  }

  /** The batch with this number, from 0 over the whole run. */
  at(number: number): BucketBatch {
    const epoch = this.#epochOf(number);
    if (epoch !== this.#epoch) {
      this.#slots = this.#arrange(epoch);
      this.#epoch = epoch;
    }
    const found = this.#slots[number - this.#before(epoch)];
    if (found === undefined) throw new RangeError(`there is no batch ${number}`);
    return found;
  }

  /** Batches that one bucket gives in the epochs before this one. */
  #given(length: number, epoch: number): number {
    return Math.floor((epoch * length) / this.#batch);
  }

  /** Batches in the epochs before this one. */
  #before(epoch: number): number {
    return this.#lengths.reduce((sum, length) => sum + this.#given(length, epoch), 0);
  }

  /** The epoch that a batch falls in: the last one with no more batches before it than the number. */
  #epochOf(number: number): number {
    let low = 0;
    let high = 1;
    while (this.#before(high) <= number) high *= 2;
    // Before `low` come at most `number` batches, before `high` more than that.
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      if (this.#before(middle) <= number) low = middle;
      else high = middle;
    }
    return low;
  }

  #arrange(epoch: number): BucketBatch[] {
    const inOrder = this.#lengths.flatMap((length, bucket) => {
      const first = this.#given(length, epoch);
      return Array.from({ length: this.#given(length, epoch + 1) - first }, () => bucket);
    });
    const next = this.#lengths.map((length) => this.#given(length, epoch));
    // Only whose turn it is gets shuffled: a bucket's own batches come in their order.
    return [...permutation(deriveSeed('buckets', this.#seed), epoch, inOrder.length)].map((slot) => {
      const bucket = inOrder[slot] ?? 0;
      const ordinal = next[bucket] ?? 0;
      next[bucket] = ordinal + 1;
      return { bucket, ordinal };
    });
  }
}
