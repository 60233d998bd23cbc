import { expect, test } from 'vitest';
import { Pace } from './pace.ts';

test('the rate is that of the last seconds, and gives the time that is left', () => {
  let now = 1_000;
  const pace = new Pace(() => now);
  expect([pace.rate, pace.left]).toEqual([0, undefined]);
  for (let second = 1; second <= 30; second += 1) {
    now += 1_000;
    pace.set(second * 10, 1_000);
  }
  expect([pace.rate, pace.left]).toEqual([10, 70]);
  for (let second = 1; second <= 30; second += 1) {
    now += 1_000;
    pace.set(300 + second * 20, 1_000);
  }
  expect([pace.rate, pace.left]).toEqual([20, 5]);
});
