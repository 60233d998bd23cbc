import { expect, test } from 'vitest';
import { formatTick, logTicks, niceTicks } from './ticks.ts';

test('ticks are round numbers inside the range', () => {
  expect(niceTicks(0, 250)).toEqual([0, 50, 100, 150, 200, 250]);
  expect(niceTicks(0.013, 0.094).map(formatTick)).toEqual(['0.02', '0.04', '0.06', '0.08']);
  expect(niceTicks(3, 3)).toEqual([3]);
});

test('small and large marks use exponents', () => {
  expect(formatTick(0.00002)).toBe('2e-5');
  expect(formatTick(0)).toBe('0');
  expect(formatTick(1200)).toBe('1200');
});

test('logarithmic marks are powers of ten and their halves and fifths where few powers fit', () => {
  expect(logTicks(0.004, 0.3).map(formatTick)).toEqual(['0.005', '0.01', '0.02', '0.05', '0.1', '0.2']);
  expect(logTicks(0.002, 40).map(formatTick)).toEqual(['0.01', '0.1', '1', '10']);
  expect(logTicks(1, 1.5).map(formatTick)).toEqual(['1', '1.2', '1.4']);
});
