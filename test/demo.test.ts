import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { potstillIn } from './support/potstill.ts';

const IMAGES = join(import.meta.dirname, '..', 'configs', 'demo', 'images');
const folder = mkdtempSync(join(tmpdir(), 'potstill-demo-'));
const potstill = potstillIn(folder);
afterAll(() => rmSync(folder, { recursive: true }));

/** The first pictures of a subject: enough to run every stage, few enough for a test. */
function fewImages(subject: string, count: number): string {
  const into = join(folder, subject);
  mkdirSync(into);
  const lines = readFileSync(join(IMAGES, subject, 'captions.jsonl'), 'utf8')
    .split('\n')
    .slice(0, count);
  for (const line of lines) {
    const { file } = JSON.parse(line) as { file: string };
    copyFileSync(join(IMAGES, subject, file), join(into, file));
  }
  writeFileSync(join(into, 'captions.jsonl'), `${lines.join('\n')}\n`);
  return into;
}

test('goes through every stage and ends in a report', { timeout: 300_000 }, async () => {
  const few = ['nature', 'people'].flatMap((subject, index) => [
    '--set',
    `data.${index}.images=${fewImages(subject, 12)}`,
  ]);
  const short = ['--prompts', '1', '--set', 'training.steps=3', '--set', 'training.batch=2'];
  const { code, stdout, stderr } = await potstill('demo', '--out', 'out', '--json', ...few, ...short);
  expect(code, stderr).toBe(0);
  const { report, distance, verification } = JSON.parse(stdout) as {
    report: string;
    distance: { all: number };
    verification: { expected: string; findings: string[]; wasmEqual: boolean }[];
  };
  expect(distance.all).toBeGreaterThan(0);
  expect(verification.map(({ expected, findings }) => [expected, findings.length > 0])).toEqual([
    ['clean', false],
    ...Array.from({ length: 6 }, () => ['damage', true]),
  ]);
  expect(verification.every(({ wasmEqual }) => wasmEqual)).toBe(true);
  expect(readFileSync(report, 'utf8').match(/<img /g)).toHaveLength(6);

  // The run's recipe names the copies of the teachers, and training found them gone; what opens them fails.
  const recipe = join(folder, 'out', 'run', 'recipe.json');
  const { teachers } = JSON.parse(readFileSync(recipe, 'utf8')) as { teachers: { id: string; model: string }[] };
  expect(teachers.map(({ id }) => id)).toEqual(['nature', 'people']);
  for (const { id, model } of teachers) {
    expect(model).toBe(join(folder, 'out', 'teachers', id));
    expect(existsSync(model)).toBe(false);
    expect(stderr).toContain(`${model} is not there: teacher ${id} is taken from its cache`);
  }
  const elsewhere = ['--set', 'cache.dir=empty', '--set', 'output=unborn'];
  const uncached = await potstill('train', recipe, ...elsewhere);
  expect(uncached.code, uncached.stderr).toBe(2);
  expect(uncached.stderr).toContain(teachers[0]?.model);
});

test('a folder with somebody’s files is left alone', async () => {
  mkdirSync(join(folder, 'mine'));
  writeFileSync(join(folder, 'mine', 'thesis.txt'), 'words');
  const { code, stderr } = await potstill('demo', '--out', 'mine');
  expect(code).toBe(2);
  expect(stderr).toContain('ERR_DEMO_OUT');
  expect(readFileSync(join(folder, 'mine', 'thesis.txt'), 'utf8')).toBe('words');
});
