import { expect, test } from 'vitest';
import { agreeOnCache, agreeToTheByte } from './agree-on-cache.ts';

const outcome = (more: object = {}) => ({
  outcome: { verdict: 'ok', entries: 4, bands: { a: [[4, 0.9, 0.8, 1]], b: [[4, 0.9, 0.8, 1.1]] }, ...more },
});

test('the same verdict, entries and statistics agree, whatever the order of the teachers', () => {
  const bands = { b: [[4, 0.90001, 0.8, 1.1]], a: [[4, 0.9, 0.8, 1]] };
  expect(() => agreeOnCache(outcome(), outcome({ bands }))).not.toThrow();
});

test.each([
  ['a verdict', { verdict: 'damaged', wrong: ['a file'] }, 'ok for one side, damaged for the other (a file)'],
  ['fewer entries', { entries: 3 }, '4 entries on one side, 3 on the other'],
  ['another slope', { bands: { a: [[4, 0.9, 0.8, 1]], b: [[4, 0.9, 0.8, 1.2]] } }, 'statistics'],
  ['a teacher less', { bands: { a: [[4, 0.9, 0.8, 1]] } }, 'statistics'],
  ['a value that is none', { bands: { a: [[4, 0.9, Number.NaN, 1]], b: [[4, 0.9, 0.8, 1.1]] } }, 'statistics'],
])('%s apart is a difference', (_, more, message) => {
  expect(() => agreeOnCache(outcome(), outcome(more))).toThrow(message);
});

test('a cache that is damaged for both sides is not timed', () => {
  expect(() => agreeOnCache(outcome({ verdict: 'damaged' }), outcome({ verdict: 'damaged' }))).toThrow('damaged');
});

test('reports agree to the byte or not at all', () => {
  expect(() => agreeToTheByte({ json: '{}' }, { json: '{}' })).not.toThrow();
  expect(() => agreeToTheByte({ json: '{}' }, { json: '{ }' })).toThrow('differ');
  expect(() => agreeToTheByte({}, {})).toThrow('differ');
});
