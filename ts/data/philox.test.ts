import { describe, expect, it } from 'vitest';
import { keyOf, philox, seedOf, uniforms } from './philox.ts';

describe('philox', () => {
  // Known answers of the Random123 distribution (kat_vectors, philox4x32, 10 rounds).
  it.each([
    [
      [0, 0],
      [0, 0, 0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [
      [0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0xa4093822, 0x299f31d0],
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ] as const)('gives the published words for key %j and counter %j', (key, counter, words) => {
    expect(philox(key, counter)).toEqual(words);
  });
});

describe('seedOf', () => {
  it('separates purposes and parts', () => {
    const seeds = [seedOf('order', 1, 2), seedOf('order', 12), seedOf('dropout', 1, 2), seedOf('order', 1, 3)];
    expect(new Set(seeds).size).toBe(seeds.length);
  });

  it('makes a key with the low word first', () => {
    expect(keyOf(0x0123456789abcdefn)).toEqual([0x89abcdef, 0x01234567]);
  });
});

describe('uniforms', () => {
  it('is in [0, 1), has the right mean and does not depend on how many are asked for', () => {
    const many = uniforms(7n, 20_000);
    expect(many.every((value) => value >= 0 && value < 1)).toBe(true);
    expect(many.reduce((sum, value) => sum + value, 0) / many.length).toBeCloseTo(0.5, 2);
    expect([...uniforms(7n, 3)]).toEqual([...many.slice(0, 3)]);
  });
});
