import { expect, test } from 'vitest';
import { closeness } from './closeness.ts';

const rows = (...values: number[][]): Float32Array[] => values.map((row) => Float32Array.from(row));
const start = rows([1, 1], [1, 1]);
const goal = rows([3, 1], [1, 3]);

test('the start has the whole way to go, the goal none', () => {
  expect(closeness({ start, goal, model: start })).toEqual({ distance: 1, share: 0, drift: 0 });
  expect(closeness({ start, goal, model: goal })).toEqual({ distance: 0, share: 1, drift: 0 });
});

test('what goes beside the way is drift, and the distance has both', () => {
  // Half the way, and as far aside as that half.
  const model = rows([2, 2], [0, 2]);
  const { distance, share, drift } = closeness({ start, goal, model });
  expect(share).toBeCloseTo(0.5, 12);
  expect(drift).toBeCloseTo(0.5, 12);
  expect(distance).toBeCloseTo(Math.SQRT1_2, 12);
});

test('nothing is measured where there is no way, or pictures are missing', () => {
  expect(() => closeness({ start, goal: start, model: goal })).toThrow('no way');
  expect(() => closeness({ start, goal, model: rows([1, 1]) })).toThrow('number');
  expect(() => closeness({ start, goal, model: rows([1, 1], [1]) })).toThrow('size');
});
