import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { type LrSchedule, lrFactor } from './lr.ts';

/** Multipliers of diffusers' schedules under torch's LambdaLR, by "kind warm-up steps": test/fixtures/make_training.py. */
const { schedules: multipliers } = z
  .object({ schedules: z.record(z.string(), z.array(z.number())) })
  .parse(JSON.parse(readFileSync(new URL('../../test/fixtures/training/expected.json', import.meta.url), 'utf8')));

const factors = (schedule: LrSchedule, total: number, count: number): number[] =>
  Array.from({ length: count }, (_, step) => lrFactor(schedule, step, total));

describe('lrFactor', () => {
  it.each<[string, LrSchedule, number]>([
    ['cosine 2 10', { id: 'cosine', warmup: 2, cycles: 0.5 }, 10],
    ['cosine 0 7', { id: 'cosine', warmup: 0, cycles: 0.5 }, 7],
    ['linear 3 12', { id: 'linear', warmup: 3 }, 12],
    ['constant_with_warmup 4 8', { id: 'constant', warmup: 4 }, 8],
    ['constant 0 3', { id: 'constant', warmup: 0 }, 3],
  ])('agrees with diffusers: %s', (name, schedule, total) => {
    const expected = multipliers[name] ?? [];
    expect(expected.length).toBeGreaterThanOrEqual(total);
    for (const [step, factor] of factors(schedule, total, total).entries()) {
      expect(factor).toBeCloseTo(expected[step] ?? Number.NaN, 12);
    }
  });

  it('stays finite when the warm-up is as long as the run', () => {
    for (const id of ['linear', 'constant'] as const) {
      expect(lrFactor({ id, warmup: 5 }, 5, 5)).toBeGreaterThanOrEqual(0);
    }
    expect(lrFactor({ id: 'cosine', warmup: 5, cycles: 0.5 }, 5, 5)).toBe(1);
  });
});
