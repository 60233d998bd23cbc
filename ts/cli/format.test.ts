import { expect, test } from 'vitest';
import { formatBytes, formatRate, formatSeconds } from './format.ts';

test.each([
  [0, '0.0 s'],
  [9.94, '9.9 s'],
  [9.96, '10 s'],
  [59.6, '1:00'],
  [185, '3:05'],
  [3723, '1:02:03'],
])('%d seconds', (seconds, text) => {
  expect(formatSeconds(seconds)).toBe(text);
});

test.each([
  [0, '0 B'],
  [17.4, '17 B'],
  [999, '999 B'],
  [999.9, '1.00 KB'],
  [1_418_000, '1.42 MB'],
  [139e9, '139 GB'],
])('%d bytes', (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

test.each([
  [0.1234, '0.12'],
  [12.34, '12.3'],
  [1234.5, '1235'],
])('%d per second', (rate, text) => {
  expect(formatRate(rate)).toBe(text);
});
