import { seedOf, uniforms } from './philox.ts';

/**
 * A permutation of 0 … length − 1 by Fisher–Yates, a pure function of its arguments: resuming needs no stored state.
 */
export function permutation(seed: number, epoch: number, length: number): Uint32Array {
  const order = Uint32Array.from({ length }, (_, index) => index);
  const draws = uniforms(seedOf('order', seed, epoch), length);
  for (let last = length - 1; last > 0; last -= 1) {
    const other = Math.floor((draws[last] ?? 0) * (last + 1));
    const kept = order[last] ?? 0;
    order[last] = order[other] ?? 0;
    order[other] = kept;
  }
  return order;
}

/**
 * The order in which a run visits its entries: epoch after epoch, each a fresh permutation, without a break between them
 * (a batch may span two epochs, so every batch is full and no entry is dropped). Position p of the run is a pure
 * function of (seed, length, p).
 */
export class DataOrder {
  readonly length: number;
  readonly #seed: number;
  #epoch = -1;
  #order: Uint32Array = new Uint32Array();

  /** @param length number of entries in an epoch, at least 1 */
  constructor(seed: number, length: number) {
    if (!Number.isSafeInteger(length) || length < 1)
      throw new RangeError(`an epoch needs at least one entry, got ${length}`);
    this.#seed = seed;
    this.length = length;
  }

  /** The epoch that a position of the run falls in, from 0. */
  epochOf(position: number): number {
    return Math.floor(position / this.length);
  }

  /** The index of the entry at a position of the run, from 0. */
  at(position: number): number {
    const epoch = this.epochOf(position);
    if (epoch !== this.#epoch) {
      this.#order = permutation(this.#seed, epoch, this.length);
      this.#epoch = epoch;
    }
    return this.#order[position - epoch * this.length] ?? 0;
  }
}
