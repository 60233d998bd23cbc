import { expect, test } from 'vitest';
import { compare } from './compare.ts';

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

/** A side whose iterations take as many seconds as its process has run. */
const counting = () => ({
  command: process.execPath,
  words: [
    '-e',
    `console.log('{}');
     let runs = 0;
     require('readline').createInterface({ input: process.stdin }).on('line', () =>
       console.log(JSON.stringify({ seconds: runs += 1, peakBytes: 1 })))`,
  ],
});

test('sides take turns, each time in a process of its own', async () => {
  const plan = { turns: 2, iterations: 3, warmUp: 1 };
  const seen: unknown[] = [];
  const result = await compare({ ours: side(1, 10), theirs: side(4, 20) }, plan, (ours, theirs) => {
    seen.push(ours['value'], theirs['value']);
  });
  expect(seen).toEqual([1, 4]);
  expect(result.ours).toEqual({ seconds: [Array(3).fill(1), Array(3).fill(1)], median: 1, spread: 0, peakBytes: 10 });
  expect(result.theirs?.seconds.flat()).toHaveLength(6);
  expect(result).toMatchObject({ ratio: 0.25, interval: [0.25, 0.25] });
  const once = await compare({ ours: counting(), theirs: counting() }, { ...plan, turns: 1 }, () => {});
  // The warm-up is the first of its process.
  expect(once.ours.seconds).toEqual([[2, 3, 4]]);
  expect(once).toMatchObject({ ratio: 1 });
  expect(once).not.toHaveProperty('interval');
});

test('nothing is timed when the outputs differ, and a side that fails says why', async () => {
  const plan = { turns: 2, iterations: 1, warmUp: 0 };
  const differ = () => {
    throw new Error('they differ');
  };
  await expect(compare({ ours: side(1, 1), theirs: side(1, 1) }, plan, differ)).rejects.toThrow('they differ');
  const broken = { command: process.execPath, words: ['-e', "throw new Error('no torch here')"] };
  await expect(compare({ ours: side(1, 1), theirs: broken }, plan, differ)).rejects.toThrow('no torch here');
  await expect(compare({ ours: { command: '/nowhere/python', words: [] } }, plan, differ)).rejects.toThrow('ENOENT');
});
