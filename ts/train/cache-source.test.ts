import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { writeTinyImages } from '../../test/support/tiny-data.ts';
import { writeTinyModel } from '../../test/support/tiny-model.ts';
import { resolveValue } from '../../test/support/training.ts';
import { ensureCache } from '../cache/index.ts';
import type { BatchRow } from '../data/batches.ts';
import { loadEngine, openModel, scope } from '../native/index.ts';
import { sourceOf } from './assemble.ts';

const OFFSET = 0.25;

it('a noise offset is one number more for each channel of each row', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'potstill-source-'));
  const engine = await loadEngine();
  await writeTinyModel(engine, join(folder, 'model'), 1);
  await writeTinyImages(engine, join(folder, 'images'), 2);
  const recipe = (noiseOffset: number) =>
    resolveValue(join(folder, 'recipe.json'), {
      version: 1,
      name: 'offset',
      output: 'run',
      student: { model: 'model' },
      data: [{ images: 'images' }],
      cache: { dir: 'cache' },
      method: { id: 'denoise' },
      training: { steps: 1, noiseOffset },
    });
  const cache = await ensureCache(recipe(0), engine);
  const { schedule } = await openModel(engine, join(folder, 'model'));
  const rows = [0, 1].map(
    (sample): BatchRow => ({
      ...{ sample, draw: 0, caption: sample, dropped: false, part: 0 },
      ...{ drawSeed: BigInt(10 + sample), stratum: [0, 1] },
    }),
  );
  const noiseOf = (offset: number) =>
    scope(async () => {
      const { noise } = sourceOf(engine, recipe(offset), cache, schedule).load(rows);
      return { values: await noise.toArray(), shape: noise.shape };
    });
  const [plain, moved, twice] = [await noiseOf(0), await noiseOf(OFFSET), await noiseOf(2 * OFFSET)];
  const [, , height = 0, width = 0] = plain.shape;
  const shifts: number[] = [];
  for (let start = 0; start < plain.values.length; start += height * width) {
    const shift = ((moved.values[start] ?? 0) - (plain.values[start] ?? 0)) / OFFSET;
    shifts.push(shift);
    for (let at = start; at < start + height * width; at += 1) {
      expect(((moved.values[at] ?? 0) - (plain.values[at] ?? 0)) / OFFSET).toBeCloseTo(shift, 5);
      expect(((twice.values[at] ?? 0) - (plain.values[at] ?? 0)) / (2 * OFFSET)).toBeCloseTo(shift, 5);
    }
  }
  // Eight standard normal numbers.
  expect(new Set(shifts.map((shift) => shift.toFixed(4))).size).toBe(8);
  const root = Math.hypot(...shifts) / Math.sqrt(shifts.length);
  expect(root).toBeGreaterThan(0.3);
  expect(root).toBeLessThan(2);
  schedule.dispose();
  rmSync(folder, { recursive: true });
});
