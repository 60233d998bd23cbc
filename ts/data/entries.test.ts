import { describe, expect, it } from 'vitest';
import { expandEntries, holdOut, holdOutMarked, type Sample } from './entries.ts';

const sample = (key: string, image = key, repeats = 1): Sample => ({
  key,
  image,
  repeats,
  captionDropout: 0,
  size: '64x64',
});

describe('expandEntries', () => {
  it('repeats a sample with each of its draws', () => {
    const samples = [sample('a'), sample('b', 'b', 2)];
    expect(expandEntries(samples, [0, 1], 2)).toEqual([
      { sample: 0, draw: 0 },
      { sample: 0, draw: 1 },
      { sample: 1, draw: 0 },
      { sample: 1, draw: 1 },
      { sample: 1, draw: 0 },
      { sample: 1, draw: 1 },
    ]);
  });
});

describe('holdOut', () => {
  const samples = Array.from({ length: 40 }, (_, index) => sample(`s${index}`, `image${index >> 1}`));

  it('splits by image: two views of one image stay together', () => {
    const { train, heldOut } = holdOut(samples, 0.25, 1);
    expect([...train, ...heldOut].sort((a, b) => a - b)).toEqual(samples.map((_, index) => index));
    expect(heldOut).toHaveLength(10);
    const held = new Set(heldOut.map((index) => samples[index]?.image));
    for (const index of train) expect(held.has(samples[index]?.image ?? '')).toBe(false);
  });

  it('does not depend on the order of the samples', () => {
    const images = (list: readonly Sample[]): Set<string> =>
      new Set(holdOut(list, 0.25, 1).heldOut.map((index) => list[index]?.image ?? ''));
    expect(images(samples.toReversed())).toEqual(images(samples));
  });

  it('keeps an image on either side, and holds out nothing when told so', () => {
    expect(holdOut(samples.slice(0, 4), 0.01, 1).heldOut).toHaveLength(2);
    expect(holdOut(samples.slice(0, 4), 0.99, 1).train).toHaveLength(2);
    expect(holdOut(samples, 0, 1).heldOut).toEqual([]);
    expect(holdOut(samples.slice(0, 2), 0.5, 1).heldOut).toEqual([]);
  });
});

describe('holdOutMarked', () => {
  it('trains on no image that is held out somewhere, whichever way it is named', () => {
    const marked = [
      { ...sample('a'), heldOut: false },
      { ...sample('flipped view of c', 'c'), heldOut: false },
      { ...sample('b'), heldOut: false },
      { ...sample('c'), heldOut: true },
      { ...sample('d'), heldOut: true },
    ];
    expect(holdOutMarked(marked)).toEqual({ train: [0, 2], heldOut: [3, 4] });
  });
});
