import { expect, test } from 'vitest';
import { setNames } from './set-names.ts';

test('a folder gives its name; those that share one are told apart by their places', () => {
  expect(setNames(['/a/cats', '/a/dogs', '/b/cats'])).toEqual(['cats-0', 'dogs', 'cats-2']);
});

test('what is added never makes the name of another folder', () => {
  expect(setNames(['/a/x', '/b/x', '/c/x-0'])).toEqual(['x-0-0', 'x-1', 'x-0']);
  expect(setNames(['/a/x', '/b/x', '/c/x-0', '/d/x-0', '/e/x-0-0'])).toEqual([
    'x-0-0-0',
    'x-1',
    'x-0-2',
    'x-0-3',
    'x-0-0',
  ]);
});
