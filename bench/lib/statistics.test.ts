import { expect, test } from 'vitest';
import { compare } from './compare.ts';
import { compareTimes, summarise } from './statistics.ts';

test('median and spread', () => {
  expect(summarise([4, 1, 3, 2])).toEqual({ median: 2.5, spread: 1.5 });
  expect(summarise([7])).toEqual({ median: 7, spread: 0 });
  expect(() => summarise([])).toThrow('no values');
});

test('a ratio has an interval around it that follows the spread of the values', () => {
  expect(compareTimes([2, 2, 2], [4, 4, 4])).toEqual({ ratio: 0.5, interval: [0.5, 0.5] });
  const noisy = compareTimes([2, 2.4, 1.8, 2.1, 2.2], [4, 4.1, 3.7, 4.4, 4.2]);
  expect(noisy.ratio).toBeCloseTo(2.1 / 4.1, 12);
  expect(noisy.interval[0]).toBeLessThan(noisy.ratio);
  expect(noisy.interval[1]).toBeGreaterThan(noisy.ratio);
  // One slow moment that met both sides does not widen it beyond what a pair of them is worth.
  expect(compareTimes([2, 2, 20], [4, 4, 40])).toEqual({ ratio: 0.5, interval: [0.5, 0.5] });
  expect(() => compareTimes([1], [1, 2])).toThrow('pairs');
});

/** A side that takes `seconds`, says its process's number and counts its iterations. */
const side = (seconds: number, peakBytes: number) => ({
  command: process.execPath,
  words: [
    '-e',
    `console.log(JSON.stringify({ process: process.pid, value: ${seconds} }));
     require('readline').createInterface({ input: process.stdin }).on('line', () =>
       console.log(JSON.stringify({ seconds: ${seconds}, peakBytes: ${peakBytes} })))`,
  ],
});

test.each([
  ['with one process each', false],
  ['with a fresh process for every turn', true],
])('sides take turns %s', async (_, apart) => {
  const plan = { turns: 2, iterations: 3, warmUp: 1, apart };
  const seen: unknown[] = [];
  const result = await compare({ ours: side(1, 10), theirs: side(4, 20) }, plan, (ours, theirs) => {
    seen.push(ours['value'], theirs['value']);
  });
  expect(seen).toEqual([1, 4]);
  expect(result.ours).toEqual({ seconds: Array(6).fill(1), median: 1, spread: 0, peakBytes: 10 });
  expect(result.theirs?.seconds).toHaveLength(6);
  expect(result.ratio).toBe(0.25);
});

test('nothing is timed when the outputs differ, and a side that fails says why', async () => {
  const plan = { turns: 1, iterations: 1, warmUp: 0, apart: false };
  const differ = () => {
    throw new Error('they differ');
  };
  await expect(compare({ ours: side(1, 1), theirs: side(1, 1) }, plan, differ)).rejects.toThrow('they differ');
  const broken = { command: process.execPath, words: ['-e', "throw new Error('no torch here')"] };
  await expect(compare({ ours: side(1, 1), theirs: broken }, plan, differ)).rejects.toThrow('no torch here');
  await expect(compare({ ours: { command: '/nowhere/python', words: [] } }, plan, differ)).rejects.toThrow('ENOENT');
});
