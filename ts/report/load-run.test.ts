import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { loadRun } from './load-run.ts';
import { writeReport } from './write-report.ts';

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'potstill-report-'));
});
afterEach(() => rm(folder, { recursive: true }));

const recipe = (): Promise<void> => writeFile(join(folder, 'recipe.json'), '{"name":"tiny"}');

test('a folder without recipe.json is not a run', async () => {
  await expect(loadRun(folder, 'potstill')).rejects.toMatchObject({ code: 'ERR_RUN_NOT_FOUND', where: folder });
});

test("a demo's folder stands for the run in it", async () => {
  await mkdir(join(folder, 'run'));
  await writeFile(join(folder, 'run', 'recipe.json'), '{"name":"the demo"}');
  expect(await writeReport(folder)).toBe(join(folder, 'report.html'));
  expect(await readFile(join(folder, 'report.html'), 'utf8')).toContain('<h1>the demo</h1>');
});

test('what a run has not come to yet is left out', async () => {
  await recipe();
  const run = await loadRun(folder, 'potstill');
  expect(run).toMatchObject({ name: 'tiny', metrics: [], samples: [], verification: [], stages: [] });
  expect(run.evaluation).toBeUndefined();
});

test('metrics and samples are read in order of steps', async () => {
  await recipe();
  const row = (step: number): string => JSON.stringify({ step, loss: 1 / step });
  await writeFile(join(folder, 'metrics.jsonl'), `${row(1)}\n${row(2)}\n{"step":3,"lo`);
  for (const name of ['step-000200', 'step-000100', 'step-1000000']) {
    await mkdir(join(folder, 'samples', name), { recursive: true });
    await writeFile(join(folder, 'samples', name, '0-a-dog.png'), 'png');
  }
  const run = await loadRun(folder, 'potstill');
  expect(run.metrics.map(({ step }) => step)).toEqual([1, 2]);
  expect(run.samples.map(({ step }) => step)).toEqual([100, 200, 1_000_000]);
  expect(run.samples[0]?.images.map(({ name }) => name)).toEqual(['0-a-dog']);
});

test('a file that is not what it should be is named with the place in it', async () => {
  await recipe();
  const path = join(folder, 'verification.json');
  await writeFile(path, '[{"subject":3}]');
  await expect(loadRun(folder, 'potstill')).rejects.toMatchObject({
    code: 'ERR_RUN_FILE',
    where: path,
    what: expect.stringContaining('0.subject'),
  });
  await writeFile(path, '[{');
  await expect(loadRun(folder, 'potstill')).rejects.toMatchObject({ code: 'ERR_RUN_FILE', what: 'is not JSON' });
});
