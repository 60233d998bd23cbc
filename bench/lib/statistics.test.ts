import { expect, test } from 'vitest';
import { compare } from './compare.ts';
import { summarise } from './statistics.ts';

test('median and spread', () => {
  expect(summarise([4, 1, 3, 2])).toEqual({ median: 2.5, spread: 1.5 });
  expect(summarise([7])).toEqual({ median: 7, spread: 0 });
  expect(() => summarise([])).toThrow('no values');
});

test('sides take turns, and the warm-up is not counted', async () => {
  const order: string[] = [];
  const side = (name: string, seconds: number) => async () => {
    order.push(name);
    return seconds;
  };
  const { ratio } = await compare(side('a', 1), side('b', 3), 2, 1);
  expect(order).toEqual(['a', 'b', 'a', 'b', 'a', 'b']);
  expect(ratio).toBe(3);
});
