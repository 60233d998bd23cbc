import { describe, expect, it } from 'vitest';
import { BatchPlan, type BatchPlanOptions } from './batches.ts';
import { BucketOrder } from './buckets.ts';

const LENGTHS = [10, 3, 1];
const BATCH = 4;

describe('BucketOrder', () => {
  it('takes every batch of every bucket once, in its order, and mixes the buckets', () => {
    const order = new BucketOrder(1, LENGTHS, BATCH);
    // After 4 epochs of 14 entries every bucket's 40, 12 and 4 entries fill whole batches.
    const batches = Array.from({ length: 14 }, (_, number) => order.at(number));
    for (const [bucket, count] of [10, 3, 1].entries()) {
      const ordinals = batches.flatMap((batch) => (batch.bucket === bucket ? batch.ordinal : []));
      expect(ordinals).toEqual(Array.from({ length: count }, (_, index) => index));
    }
    const many = Array.from({ length: 140 }, (_, number) => order.at(number).bucket);
    const changes = many.filter((bucket, index) => index > 0 && bucket !== many[index - 1]).length;
    expect(changes).toBeGreaterThan(40);
  });

  it('gives the same batch whatever was asked before, far into a run too', () => {
    const order = new BucketOrder(1, LENGTHS, BATCH);
    const forward = Array.from({ length: 300 }, (_, number) => order.at(number));
    const again = new BucketOrder(1, LENGTHS, BATCH);
    for (const number of [299, 0, 150, 13, 14]) expect(again.at(number)).toEqual(forward[number]);
    expect(new BucketOrder(1, LENGTHS, BATCH).at(10_000_000).ordinal).toBeGreaterThan(100_000);
  });

  it('is the plain order for one bucket', () => {
    const order = new BucketOrder(1, [5], BATCH);
    for (const number of [0, 1, 7, 100]) expect(order.at(number)).toEqual({ bucket: 0, ordinal: number });
  });
});

describe('BatchPlan with pictures of several sizes', () => {
  const sizes = ['64x64', '32x64', '64x32'];
  const options: BatchPlanOptions = {
    samples: LENGTHS.flatMap((count, bucket) =>
      Array.from({ length: count }, (_, index) => ({
        key: `${bucket}/${index}`,
        image: `${bucket}/${index}`,
        repeats: 1,
        captionDropout: 0,
        size: sizes[bucket] ?? '',
      })),
    ),
    among: Array.from({ length: 14 }, (_, index) => index),
    seed: 42,
    batch: BATCH,
    draws: 1,
  };

  it('has full batches of one size, and sees every sample once an epoch', () => {
    const plan = new BatchPlan(options);
    const batches = Array.from({ length: 14 }, (_, number) => plan.rows(number));
    for (const rows of batches) {
      expect(rows).toHaveLength(BATCH);
      expect(new Set(rows.map(({ sample }) => options.samples[sample]?.size)).size).toBe(1);
    }
    // Each bucket's own epochs are permutations, so after 4 epochs every sample was seen 4 times, no more and no less.
    const seen = new Map<number, number>();
    for (const { sample } of batches.flat()) seen.set(sample, (seen.get(sample) ?? 0) + 1);
    expect([...seen.values()]).toEqual(Array(14).fill(4));
    const seeds = batches.flat().map(({ drawSeed }) => drawSeed);
    expect(new Set(seeds).size).toBe(seeds.length);
  });

  it('gives the same batch whatever was asked before', () => {
    const plan = new BatchPlan(options);
    for (let number = 0; number < 30; number += 1) plan.rows(number);
    expect(new BatchPlan(options).rows(23)).toEqual(plan.rows(23));
  });
});
