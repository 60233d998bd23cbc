import { describe, expect, it } from 'vitest';
import { DataOrder, permutation } from './order.ts';

const sorted = (values: Iterable<number>): number[] => [...values].sort((a, b) => a - b);

describe('permutation', () => {
  it.each([1, 2, 7, 100])('visits each of %i entries once', (length) => {
    expect(sorted(permutation(3, 0, length))).toEqual(Array.from({ length }, (_, index) => index));
  });

  it('differs between epochs and seeds, and is the same for the same ones', () => {
    const first = [...permutation(1, 0, 50)];
    expect([...permutation(1, 0, 50)]).toEqual(first);
    expect([...permutation(1, 1, 50)]).not.toEqual(first);
    expect([...permutation(2, 0, 50)]).not.toEqual(first);
  });

  it('puts every entry everywhere equally often', () => {
    const length = 5;
    const epochs = 4000;
    const counts = new Float64Array(length * length);
    for (let epoch = 0; epoch < epochs; epoch += 1) {
      for (const [place, entry] of permutation(9, epoch, length).entries()) {
        const cell = place * length + entry;
        counts[cell] = (counts[cell] ?? 0) + 1;
      }
    }
    // Each cell is binomial with p = 1/5: five standard deviations are 126.
    for (const count of counts) expect(Math.abs(count - epochs / length)).toBeLessThan(126);
  });
});

describe('DataOrder', () => {
  it('visits every entry once per epoch, in any order of asking', () => {
    const order = new DataOrder(5, 12);
    const forward = Array.from({ length: 36 }, (_, position) => order.at(position));
    for (const epoch of [0, 1, 2]) {
      expect(sorted(forward.slice(epoch * 12, epoch * 12 + 12))).toEqual(
        Array.from({ length: 12 }, (_, index) => index),
      );
    }
    const again = new DataOrder(5, 12);
    for (const position of [35, 0, 17, 12, 11]) expect(again.at(position)).toBe(forward[position]);
  });

  it('refuses an empty epoch', () => {
    expect(() => new DataOrder(1, 0)).toThrow(RangeError);
  });
});
