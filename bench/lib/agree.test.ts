import { expect, test } from 'vitest';
import { agree, agreeWith } from './agree.ts';

test('outputs agree as lists, packed or by name', () => {
  const packed = (values: readonly number[]) => Buffer.from(Float32Array.from(values).buffer).toString('base64');
  const compared = (own: unknown, other: unknown, tolerance = 1e-3) =>
    agree({ out: own }, { out: other }, 'out', tolerance);
  compared([3, 4], packed([3, 4]));
  compared(packed([3, 4.004]), packed([3, 4]));
  expect(() => compared(packed([3, 4.04]), packed([3, 4]))).toThrow(/out differs by 0\.0079999/);
  expect(() => compared([3, Number.NaN], [3, 4])).toThrow('differs by NaN');
  expect(() => compared([3], [3, 4])).toThrow('1 and 2 values');
  expect(() => compared(undefined, [3])).toThrow('a side did not compute it');
  compared({ a: 1, b: 1000 }, { b: 1000.1, a: 1.0001 });
  expect(() => compared({ a: 1, b: 1002 }, { a: 1, b: 1000 })).toThrow('differs by 0.00');
  // Each by itself: the small one is not lost beside the large one, though it may have fewer right digits.
  compared({ a: 1.09, b: 1000 }, { a: 1, b: 1000 });
  expect(() => compared({ a: 1.2, b: 1000 }, { a: 1, b: 1000 })).toThrow('differs by up to 0.1');
  // Zero but for rounding, beside a thousandth of the median.
  compared({ a: 1e-9, b: 2, c: 3 }, { a: 3e-9, b: 2, c: 3 });
  expect(() => compared({ a: 1e-3, b: 2, c: 3 }, { a: 0, b: 2, c: 3 })).toThrow('differs by up to 0.5');
  expect(() => compared({ a: 1 }, { a: 1, c: 1 })).toThrow('one side alone has c');
});

test('outputs of few digits are compared by how far each is from many digits', () => {
  const packed = (values: readonly number[]) => Buffer.from(Float32Array.from(values).buffer).toString('base64');
  const compared = (own: unknown, other: unknown, most: number) =>
    agreeWith({ out: packed([100, 200]) }, { ours: { out: own }, theirs: { out: other } }, 'out', most);
  compared([101.4, 200], [100, 201], 1.5);
  expect(() => compared([101.6, 200], [100, 201], 1.5)).toThrow('out is 0.007');
  expect(() => compared([Number.NaN, 200], [100, 201], 1.5)).toThrow('nothing is timed');
  const byName = (values: readonly number[]) => ({ b: values[1], a: values[0] });
  const reference = { out: { a: 100, b: 200 } };
  agreeWith(reference, { ours: { out: byName([100, 201]) }, theirs: { out: { a: 101, b: 200 } } }, 'out', 1);
});
