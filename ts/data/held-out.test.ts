import { describe, expect, it } from 'vitest';
import { heldOutRows, withShuffledCaptions } from './held-out.ts';

const samples = ['a', 'b', 'c', 'd'].map((key) => ({ key, image: key, repeats: 3, captionDropout: 1, size: '64x64' }));

describe('heldOutRows', () => {
  it('has each held-out sample with each draw once, captions kept', () => {
    const rows = heldOutRows({ samples, among: [1, 3], seed: 1, draws: 2 });
    expect(rows.map(({ sample, draw, caption, stratum }) => [sample, draw, caption, stratum])).toEqual([
      [1, 0, 1, [0, 2]],
      [1, 1, 1, [1, 2]],
      [3, 0, 3, [0, 2]],
      [3, 1, 3, [1, 2]],
    ]);
    expect(rows.some(({ dropped }) => dropped)).toBe(false);
  });

  it('keeps the noise of a sample when others are added before it', () => {
    const [first] = heldOutRows({ samples, among: [3], seed: 1, draws: 1 });
    const [again] = heldOutRows({ samples: samples.toReversed(), among: [0], seed: 1, draws: 1 });
    expect(again?.drawSeed).toBe(first?.drawSeed);
  });
});

describe('withShuffledCaptions', () => {
  it('gives every sample the caption of another, and changes nothing else', () => {
    const rows = heldOutRows({ samples, among: [0, 1, 3], seed: 1, draws: 2 });
    const shuffled = withShuffledCaptions(rows);
    expect(shuffled.map(({ caption }) => caption)).toEqual([1, 1, 3, 3, 0, 0]);
    expect(shuffled.map((row) => ({ ...row, caption: row.sample }))).toEqual(rows);
  });
});
