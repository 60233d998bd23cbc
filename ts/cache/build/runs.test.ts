import { expect, it } from 'vitest';
import { runsOf } from './runs.ts';

it('runs end at the limit and where the key changes', () => {
  const key = (record: number): string => (record < 5 ? 'small' : 'large');
  const runs = [...runsOf({ from: 1, to: 12 }, 3, key)].map(({ from, to }) => [from, to]);
  expect(runs).toEqual([
    [1, 4],
    [4, 5],
    [5, 8],
    [8, 11],
    [11, 12],
  ]);
  expect([...runsOf({ from: 2, to: 2 }, 3, key)]).toEqual([]);
});
