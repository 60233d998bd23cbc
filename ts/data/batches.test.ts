import { describe, expect, it } from 'vitest';
import { BatchPlan, type BatchPlanOptions } from './batches.ts';

const options: BatchPlanOptions = {
  samples: Array.from({ length: 10 }, (_, index) => ({
    key: `s${index}`,
    image: `i${index}`,
    repeats: 1,
    captionDropout: index < 5 ? 0 : 0.25,
    size: '64x64',
  })),
  among: Array.from({ length: 10 }, (_, index) => index),
  seed: 42,
  batch: 4,
  draws: 3,
};

describe('BatchPlan', () => {
  it('fills every batch and uses each sample with each draw once an epoch', () => {
    const plan = new BatchPlan(options);
    expect(plan.epochLength).toBe(30);
    const rows = Array.from({ length: 15 }, (_, number) => plan.rows(number)).flat();
    expect(rows).toHaveLength(60);
    for (const epoch of [rows.slice(0, 30), rows.slice(30)]) {
      expect(new Set(epoch.map(({ sample, draw }) => `${sample}/${draw}`)).size).toBe(30);
    }
  });

  it('gives the same batch whatever was asked before', () => {
    const plan = new BatchPlan(options);
    for (let number = 0; number < 20; number += 1) plan.rows(number);
    expect(new BatchPlan(options).rows(17)).toEqual(plan.rows(17));
  });

  it('has other draws and seeds in every row and run', () => {
    const seeds = (seed: number): bigint[] => {
      const plan = new BatchPlan({ ...options, seed });
      return Array.from({ length: 50 }, (_, number) => plan.rows(number).map(({ drawSeed }) => drawSeed)).flat();
    };
    expect(new Set([...seeds(1), ...seeds(2)]).size).toBe(400);
  });

  it('drops captions as often as asked, and only where asked', () => {
    const plan = new BatchPlan(options);
    const rows = Array.from({ length: 2000 }, (_, number) => plan.rows(number)).flat();
    expect(rows.some(({ sample, dropped }) => sample < 5 && dropped)).toBe(false);
    const eligible = rows.filter(({ sample }) => sample >= 5);
    const share = eligible.filter(({ dropped }) => dropped).length / eligible.length;
    expect(share).toBeCloseTo(0.25, 1);
  });
});
