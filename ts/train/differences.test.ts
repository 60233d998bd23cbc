import { describe, expect, it } from 'vitest';
import { differingKeys, inWords } from './differences.ts';

describe('differingKeys', () => {
  it('names every place, in order', () => {
    const before = { seed: 1, teachers: [{ id: 'a', weight: 1 }], training: { steps: 10, clip: 1 } };
    const after = { seed: 1, teachers: [{ id: 'a', weight: 2 }, { id: 'b' }], training: { steps: 20 } };
    expect(differingKeys(before, after)).toEqual([
      'teachers[0].weight',
      'teachers[1]',
      'training.clip',
      'training.steps',
    ]);
  });

  it('finds nothing in equal values, and counts undefined as missing', () => {
    expect(differingKeys({ a: [1, { b: null }] }, { a: [1, { b: null }], c: undefined })).toEqual([]);
  });

  it('tells kinds of values apart', () => {
    expect(differingKeys({ a: [] }, { a: {} })).toEqual(['a']);
    expect(differingKeys({ a: 1 }, { a: '1' })).toEqual(['a']);
  });
});

describe('inWords', () => {
  it('cuts long values', () => {
    expect(inWords(undefined)).toBe('nothing');
    expect(inWords([1, 2])).toBe('[1,2]');
    expect(inWords('x'.repeat(100))).toHaveLength(60);
  });
});
