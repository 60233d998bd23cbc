import { describe, expect, it } from 'vitest';
import { differences, nameOfPart } from './difference.ts';

describe('differences', () => {
  it('names the places and both values', () => {
    const found = { unet: { weights: { 'model.safetensors': 'aa' } }, draws: 4, samples: [[0, 1]] };
    const wanted = {
      unet: { weights: { 'model.safetensors': 'bb' } },
      draws: 4,
      samples: [
        [0, 1],
        [1, 2],
      ],
    };
    expect(differences(found, wanted)).toEqual([
      { path: 'unet.weights.model.safetensors', found: 'aa', wanted: 'bb' },
      { path: 'samples.1', found: undefined, wanted: [1, 2] },
    ]);
    expect(differences(found, found)).toEqual([]);
    expect(differences({ a: [] }, { a: {} })).toEqual([{ path: 'a', found: [], wanted: {} }]);
  });

  it('stops at the limit', () => {
    const numbers = Array.from({ length: 100 }, (_, index) => index);
    expect(
      differences(
        numbers,
        numbers.map((value) => value + 1),
        3,
      ),
    ).toHaveLength(3);
  });
});

describe('nameOfPart', () => {
  it('speaks of what a reader knows', () => {
    expect(nameOfPart('unet.weights.model.safetensors')).toBe('teacher weights digest');
    expect(nameOfPart('unet.config')).toBe('teacher configuration');
    expect(nameOfPart('noise.baseSeed')).toBe('base seed');
    expect(nameOfPart('other')).toBe('other');
  });
});
