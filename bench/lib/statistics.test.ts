import { expect, test } from 'vitest';
import { compareTimes, summarise } from './statistics.ts';

test('median and spread', () => {
  expect(summarise([4, 1, 3, 2])).toEqual({ median: 2.5, spread: 1.5 });
  expect(summarise([7])).toEqual({ median: 7, spread: 0 });
  expect(() => summarise([])).toThrow('no values');
});

test('a ratio has an interval around it that follows the spread between turns', () => {
  const alike = [
    [2, 2],
    [2, 2],
  ];
  expect(
    compareTimes(
      alike,
      alike.map((turn) => turn.map((seconds) => 2 * seconds)),
    ),
  ).toEqual({
    ratio: 0.5,
    interval: [0.5, 0.5],
  });
  const noisy = compareTimes(
    [
      [2, 2.4],
      [1.8, 2.1],
      [2.2, 2],
    ],
    [
      [4, 4.1],
      [3.7, 4.4],
      [4.2, 4],
    ],
  );
  expect(noisy.ratio).toBeCloseTo(2.05 / 4.05, 12);
  expect(noisy.interval[0]).toBeLessThan(noisy.ratio);
  expect(noisy.interval[1]).toBeGreaterThan(noisy.ratio);
  // A slow moment that met both sides of a turn says nothing about their ratio.
  expect(compareTimes([[2], [2], [20]], [[4], [4], [40]])).toEqual({ ratio: 0.5, interval: [0.5, 0.5] });
  expect(() => compareTimes([[1]], [[1]])).toThrow('two turns');
  expect(() => compareTimes([[1], [2]], [[1]])).toThrow('two turns');
});

/** Standard normal numbers from a fixed seed: Lehmer's generator, and Box and Muller's way. */
function normals(seed: number): () => number {
  let state = seed;
  const uniform = (): number => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}

test.each([3, 5, 10])('of 100 intervals of %d turns whose processes differ, about 95 hold the true ratio', (turns) => {
  const EXPERIMENTS = 300;
  const [ratio, between, within] = [0.8, 0.05, 0.01];
  const normal = normals(12_345 + turns);
  const side = (median: number): number[][] =>
    Array.from({ length: turns }, () => {
      const process = between * normal();
      return Array.from({ length: 4 }, () => median * Math.exp(process + within * normal()));
    });
  let held = 0;
  let narrow = 0;
  for (let i = 0; i < EXPERIMENTS; i += 1) {
    const [ours, theirs] = [side(ratio), side(1)];
    const holds = ([low, high]: readonly [number, number]): boolean => low <= ratio && ratio <= high;
    if (holds(compareTimes(ours, theirs, 400).interval)) held += 1;
    // The same values as if all iterations were independent: each a turn of its own.
    const alone = (values: number[][]): number[][] => values.flat().map((value) => [value]);
    if (holds(compareTimes(alone(ours), alone(theirs), 400).interval)) narrow += 1;
  }
  expect(held / EXPERIMENTS).toBeGreaterThan(0.92);
  expect(held / EXPERIMENTS).toBeLessThan(0.995);
  expect(narrow / EXPERIMENTS).toBeLessThan(0.8);
});
