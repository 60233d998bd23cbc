import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import { demoFolder } from '../demo/assets.ts';
import { loadEngine } from '../native/index.ts';
import { StepBenchmark } from './index.ts';

const folder = mkdtempSync(join(tmpdir(), 'potstill-step-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('the step of a training is told apart into its parts, and the loop is what is left without a model', async () => {
  vi.stubEnv('TMPDIR', folder);
  const engine = await loadEngine({ threads: 2 });
  const bench = await StepBenchmark.create(engine, demoFolder());
  expect(readdirSync(folder)).toHaveLength(1);
  const { loop, step } = await bench.measure(3);
  expect(loop.seconds).toHaveLength(3);
  expect(loop.flops).toBe(0);
  expect(Math.max(...loop.seconds)).toBeLessThan(Math.min(...step.seconds));
  expect(step).toMatchObject({ threads: 2, kernels: engine.kernelClass });
  expect(step.flops).toBeGreaterThan(1e9);
  const { parts } = step;
  for (const name of ['reading', 'forward', 'backward', 'clip', 'optimizer', 'ema', 'rest'] as const) {
    expect(parts[name], name).toBeGreaterThan(0);
  }
  expect(parts.forward + parts.backward).toBeGreaterThan(parts.rest);
  // What is read ahead is not waited for.
  expect(parts.reading).toBeLessThan(0.01 * parts.forward);
  await bench.dispose();
  expect(readdirSync(folder)).toEqual([]);
});
