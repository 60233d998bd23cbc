import { expect, test } from 'vitest';
import { ROWS } from './rows.ts';
import { limits, type Recorded, shortTable, table } from './table.ts';

const row = { name: 'unet', what: 'a UNet', gate: 1.3, goal: 0.95, short: true } as const;
const result = (ratio: number): Recorded => ({
  commit: 'abc',
  date: '2026-01-01',
  machine: { processor: 'A processor', cores: 2 },
  workload: { size: 512, batch: 1 },
  threads: 2,
  kernels: 'avx512',
  flopsPerSecond: 90e9,
  gemmFlopsPerSecond: 100e9,
  ours: { seconds: [[4]], median: 4, spread: 0, peakBytes: 3.84e9 },
  theirs: { seconds: [[5]], median: 5, spread: 0, peakBytes: 4.56e9 },
  ratio,
  interval: [ratio - 0.05, ratio + 0.05],
});

test('a comparison stands beside its gate and its goal, with the memory of both sides', () => {
  expect(
    table([{ row, result: result(0.8) }])
      .split('\n')
      .at(-1),
  ).toBe(
    '| a UNet, 512², batch 1, 2 threads, avx512 | 4.00 s | 5.00 s | **0.80** (0.75–0.85) | 1.3, 0.95: goal | 3.8 GB : 4.6 GB | 90 % |',
  );
  expect(table([{ row, result: result(1.1) }])).toContain('1.3, 0.95: gate');
  expect(table([{ row, result: result(1.31) }])).toContain('1.3, 0.95: **missed**');
  expect(table([{ row, result: result(1) }])).toMatch(/^Machine: A processor, 2 cores\.\n/);
});

test('a time that others shared the machine with says so', () => {
  expect(table([{ row, result: { ...result(0.8), othersBusy: 0.92 } }])).toContain(
    '**0.80** (0.75–0.85) (others used up to 0.9 processors) |',
  );
  expect(table([{ row, result: { ...result(0.8), othersBusy: 0.05 } }])).toContain('**0.80** (0.75–0.85) |');
});

test('what was not measured says so, and the short table leaves it out', () => {
  const rows = [
    { row, result: undefined },
    { row: { ...row, what: 'another' }, result: result(0.9) },
    { row: { name: 'vae', what: 'a VAE', gate: 1, goal: 1 }, result: result(0.9) },
  ];
  expect(table(rows)).toContain('| a UNet | not measured |');
  expect(shortTable(rows).split('\n').slice(2)).toEqual([
    '| another, 512², batch 1, 2 threads, avx512 | 4.00 s | 5.00 s | **0.90** (0.85–0.95) |',
  ]);
});

test('start-up and loop stand beside their limits', () => {
  const started = (ratio: number) => ({ ours: { median: 0.12, spread: 0 }, ratio, interval: [1, 6] as const });
  const start = { node: { median: 0.05, spread: 0 }, help: started(2.4), check: started(5.1) };
  const loop = {
    loop: { median: 0.0005, spread: 0 },
    step: { median: 0.1, spread: 0, peakBytes: 1e9 },
    parts: { reading: 5e-6, forward: 0.03 },
  };
  const text = limits({ start, loop });
  expect(text).toContain("| 120 ms | 2.5 × node's own start | **2.40** (1.00–6.00): kept |");
  expect(text).toContain("| 120 ms | 5 × node's own start | **5.10** (1.00–6.00): **missed** |");
  expect(text).toContain('| 500 µs | under 1 ms | kept |');
  expect(text).toContain('reading 5.00 µs, forward 30.0 ms');
  expect(limits({ loop: { ...loop, loop: { median: 0.002, spread: 0 } } })).toContain(
    '| 2.00 ms | under 1 ms | **missed** |',
  );
});

test('verification stands beside the addon and the disk', () => {
  const text = limits({ wasm: result(1.9), wasmNoise: result(8), disk: { ...result(1.3), othersBusy: 0.5 } });
  expect(text).toContain("| 4.00 s | 2 × the addon's time | **1.90** (1.85–1.95): kept |");
  expect(text).toContain('| 4.00 s |  | **8.00** (7.95–8.05) |');
  expect(text).toContain(
    '| 1.25 × the time to read them | **1.30** (1.25–1.35): **missed** (others used up to 0.5 processors) |',
  );
});

test('an index must be opened soon and in little memory', () => {
  const opened = (median: number, peakBytes: number) => ({ median, spread: 0, peakBytes });
  const index = {
    entries: 1000,
    mostSeconds: 1,
    mostBytes: 200e6,
    open: opened(0.4, 150e6),
    stats: opened(0.4, 201e6),
  };
  expect(limits({ index }).split('\n').slice(2)).toEqual([
    '| index of 1000 predictions, opened | 400 ms, 150 MB | 1 s, 200 MB | kept |',
    '| `cache stats` of 1000 predictions | 400 ms, 201 MB | 1 s, 200 MB | **missed** |',
  ]);
});

test('small ratios have three digits', () => {
  expect(table([{ row, result: { ...result(0.0512), interval: [0.049, 0.053] } }])).toContain(
    '**0.051** (0.049–0.053)',
  );
});

test('every row is named once', () => {
  const names = ROWS.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
});
