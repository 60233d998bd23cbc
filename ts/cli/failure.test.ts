import { expect, test } from 'vitest';
import { inputError } from '../errors.ts';
import { formatError } from './failure.ts';

const listing = (count: number): string =>
  ['keys do not fit', ...Array.from({ length: count }, (_, key) => `  key ${key}`)].join('\n');

test('an error that lists hundreds of keys shows the first, and says how many are left out', () => {
  const error = inputError('ERR_KEYS', listing(300), { where: 'model', remedy: 'Take another.' });
  const lines = formatError(error, {}).trimEnd().split('\n');
  expect(lines).toHaveLength(1 + 24 + 1 + 2);
  expect(lines[0]).toBe('error: keys do not fit [ERR_KEYS]');
  expect(lines.slice(24)).toEqual([
    '  key 23',
    '  and 276 more lines; --json has all',
    '  where: model',
    '  do:    Take another.',
  ]);
  expect(JSON.stringify(error)).toContain('key 299');
});

test('a short list is shown whole', () => {
  const error = inputError('ERR_KEYS', listing(25), { where: 'model', remedy: 'Take another.' });
  expect(formatError(error, {})).toContain('  key 24\n  where: model');
});
