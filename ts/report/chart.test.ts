import { expect, test } from 'vitest';
import { lineChart } from './chart.ts';

const axes = { title: 'Loss', xLabel: 'step', yLabel: 'loss' };

test('draws a raw and a smoothed path per series and names them', () => {
  const chart = lineChart({
    ...axes,
    series: [
      {
        label: 'a <b>',
        points: [
          [1, 2],
          [2, 1],
        ],
      },
    ],
  }).text;
  expect(chart.match(/<path /g)).toHaveLength(2);
  expect(chart).toContain('a &lt;b&gt;');
});

test('values that are not finite, or not positive on a log axis, are left out', () => {
  const points: [number, number][] = [
    [1, Number.NaN],
    [2, 0],
    [3, 0.5],
    [4, 0.25],
  ];
  const chart = lineChart({ ...axes, log: true, series: [{ label: 'loss', points }] }).text;
  expect(chart).not.toContain('NaN');
  expect(chart.match(/class="raw s0" d="(M[^"]*)"/)?.[1]?.match(/[ML]/g)).toHaveLength(2);
});

test('a long series is averaged, not cut', () => {
  const points = Array.from({ length: 10_000 }, (_, x): [number, number] => [x, x]);
  const chart = lineChart({ ...axes, series: [{ label: 'line', points }] }).text;
  const drawn = JSON.parse((/data-series="([^"]*)"/.exec(chart)?.[1] ?? '').replaceAll('&quot;', '"')) as [
    { points: [number, number][] },
  ];
  expect(drawn[0].points.length).toBeLessThanOrEqual(400);
  expect(drawn[0].points.at(-1)?.[0]).toBe(9999);
});

test('nothing recorded is said, not drawn', () => {
  expect(lineChart({ ...axes, series: [] }).text).toContain('nothing recorded');
});
