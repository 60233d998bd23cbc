import { expect, test } from 'vitest';
import { broadcastShapes, concatenatedShape, elements, formatShape, reducedShape } from './shape.ts';

test('broadcasting follows numpy', () => {
  expect(broadcastShapes([2, 1, 3], [4, 1])).toEqual([2, 4, 3]);
  expect(broadcastShapes([], [5])).toEqual([5]);
  expect(broadcastShapes([0], [1])).toEqual([0]);
  expect(broadcastShapes([2], [3])).toBeUndefined();
});

test('reductions drop or keep their axes', () => {
  expect(reducedShape([2, 3, 4], [0, 2], false)).toEqual([3]);
  expect(reducedShape([2, 3, 4], [0, 2], true)).toEqual([1, 3, 1]);
  expect(reducedShape([2], [1], false)).toBeUndefined();
});

test('tensors laid end to end must agree in the other axes', () => {
  const shapes = [
    [2, 3],
    [4, 3],
  ];
  expect(concatenatedShape(shapes, 0)).toEqual([6, 3]);
  expect(concatenatedShape(shapes, 1)).toBeUndefined();
  expect(concatenatedShape([], 0)).toBeUndefined();
});

test('scalars have one element', () => {
  expect(elements([])).toBe(1);
  expect(elements([2, 0])).toBe(0);
  expect(formatShape([])).toBe('[]');
});
