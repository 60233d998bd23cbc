import { expect, test } from 'vitest';
import type { OpenedCache } from '../cache/index.ts';
import { resolveRecipe } from '../recipe/index.ts';
import { splitData } from './held-out-data.ts';

test('a share is held out of what the recipe trains by its own method', () => {
  const value = {
    version: 1,
    name: 'test',
    student: { model: 'student', train: { lora: {} } },
    data: [{ images: 'new' }, { images: 'old', method: { id: 'prior' } }],
    method: { id: 'denoise' },
    training: { steps: 1, validation: { every: 1, fraction: 0.5 } },
  };
  const { recipe } = resolveRecipe({
    file: 'recipe.json',
    value,
    place: () => ({ line: 1, column: 1 }),
    has: () => true,
  });
  // Pictures 0 to 3 are new, 2 to 7 are old: two are both.
  const images = [0, 1, 2, 3, 2, 3, 4, 5, 6, 7];
  const samples = images.map((image, index) => ({ image: `picture ${image}`, source: index < 4 ? 0 : 1 }));
  const { train, heldOut } = splitData(recipe, { samples } as unknown as OpenedCache);
  expect(heldOut).toHaveLength(2);
  expect(heldOut.every((index) => index < 4)).toBe(true);
  const shown = new Set(heldOut.map((index) => images[index]));
  expect(train).toEqual([...images.keys()].filter((index) => !shown.has(images[index] ?? -1)));
  expect(train).toEqual(expect.arrayContaining([6, 7, 8, 9]));
});
