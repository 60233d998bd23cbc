import { expect, test } from 'vitest';
import { groups, groupTable } from './groups.ts';

const limits = { gemmFlopsPerSecond: 100e9, bytesPerSecond: 1e9 };
const operation = { backward: false, calls: 1, seconds: 1, flops: 0, shape: [1000, 1000] };

test('products are held against the peak, what moves memory against the bandwidth, and the slowest comes first', () => {
  const found = groups(
    [
      { ...operation, op: 'linear', seconds: 2, flops: 150e9 },
      { ...operation, op: 'linear', seconds: 1, flops: 50e9, shape: [4] },
      { ...operation, op: 'linear', backward: true, seconds: 6, flops: 300e9 },
      // Two reads and a write of 4 MB, ten times.
      { ...operation, op: 'add', calls: 10, seconds: 0.5 },
      { ...operation, op: 'silu', seconds: 0.5 },
    ],
    limits,
  );
  expect(found).toMatchObject([
    { name: 'linear, backward', seconds: 6, share: 0.6, leastSeconds: 3 },
    { name: 'linear, forward', seconds: 3, share: 0.3, flops: 200e9, leastSeconds: 2 },
    { seconds: 0.5, share: 0.05 },
    { seconds: 0.5, share: 0.05 },
  ]);
  expect(found.find(({ name }) => name.includes('sums'))?.leastSeconds).toBeCloseTo(0.12);
  expect(found.find(({ name }) => name.includes('else'))).not.toHaveProperty('leastSeconds');
  expect(groupTable(found).split('\n')[2]).toBe('| linear, backward | 6.00 s | 60 % | 3.00 s | 50 % |');
});
