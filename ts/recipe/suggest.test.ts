import { expect, test } from 'vitest';
import { nearest } from './suggest.ts';

const KEYS = ['steps', 'batch', 'optimizer', 'schedule', 'lr'];

test.each([
  ['setps', 'steps'],
  ['Batch', 'batch'],
  ['optimiser', 'optimizer'],
  ['shedule', 'schedule'],
  ['l', 'lr'],
])('%s means %s', (word, meant) => {
  expect(nearest(word, KEYS)).toBe(meant);
});

test('a word that is near nothing means nothing', () => {
  expect(nearest('guidance', KEYS)).toBeUndefined();
  expect(nearest('', [])).toBeUndefined();
});
