import { describe, expect, it } from 'vitest';
import { type LrSchedule, lrFactor } from './lr.ts';

const factors = (schedule: LrSchedule, total: number): number[] =>
  Array.from({ length: total + 1 }, (_, step) => lrFactor(schedule, step, total));

describe('lrFactor', () => {
  it('is 1 without warm-up and rises from 0 with one', () => {
    expect(factors({ id: 'constant', warmup: 0 }, 3)).toEqual([1, 1, 1, 1]);
    expect(factors({ id: 'constant', warmup: 4 }, 5)).toEqual([0, 0.25, 0.5, 0.75, 1, 1]);
  });

  it('falls linearly to 0', () => {
    expect(factors({ id: 'linear', warmup: 2 }, 6)).toEqual([0, 0.5, 1, 0.75, 0.5, 0.25, 0]);
  });

  // Values of diffusers' get_cosine_schedule_with_warmup(num_warmup_steps=2, num_training_steps=10).
  it('follows half a cosine after the warm-up', () => {
    const expected = [0, 0.5, 1, 0.9619397662556434, 0.8535533905932737, 0.6913417161825449, 0.5];
    for (const [step, factor] of expected.entries()) {
      expect(lrFactor({ id: 'cosine', warmup: 2, cycles: 0.5 }, step, 10)).toBeCloseTo(factor, 12);
    }
    expect(lrFactor({ id: 'cosine', warmup: 2, cycles: 0.5 }, 10, 10)).toBe(0);
  });

  it('stays finite when the warm-up is as long as the run', () => {
    for (const id of ['linear', 'constant'] as const)
      expect(lrFactor({ id, warmup: 5 }, 5, 5)).toBeGreaterThanOrEqual(0);
    expect(lrFactor({ id: 'cosine', warmup: 5, cycles: 0.5 }, 5, 5)).toBe(1);
  });
});
