import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { writeEchoUnet } from '../../test/support/echo-unet.ts';
import { writeTinyImages } from '../../test/support/tiny-data.ts';
import { writeTinyModel } from '../../test/support/tiny-model.ts';
import { resolveValue, trainQuietly } from '../../test/support/training.ts';
import { loadEngine } from '../native/index.ts';
import { readMetrics } from './metrics.ts';

const TIMEOUT_MS = 120_000;
const folder = mkdtempSync(join(tmpdir(), 'potstill-guidance-'));
const at = (...names: string[]): string => join(folder, ...names);

beforeAll(async () => {
  const engine = await loadEngine();
  await writeTinyModel(engine, at('student'), 1);
  await writeEchoUnet(engine, at('teacher'), 2);
  await writeTinyImages(engine, at('images'), 6);
}, TIMEOUT_MS);
afterAll(() => rmSync(folder, { recursive: true }));

/** Losses of a training by these options of the method. */
async function losses(output: string, method: object): Promise<number[]> {
  const value = {
    version: 1,
    name: output,
    output,
    seed: 3,
    student: { model: 'student' },
    teachers: [{ id: 'a', model: 'teacher' }],
    data: [{ images: 'images', captionDropout: 0.2 }],
    cache: { dir: 'cache', draws: 2 },
    method: { id: 'cfg', ...method },
    training: { steps: 3, batch: 2 },
  };
  await trainQuietly(resolveValue(at('recipe.json'), value));
  return (await readMetrics(at(output, 'metrics.jsonl'))).map(({ loss }) => loss);
}

/** Every file of the cache, by its content. */
function contents(): Map<string, string> {
  const files = readdirSync(at('cache'), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(
    files.map(({ parentPath, name }) => {
      const file = join(parentPath, name);
      return [file, createHash('sha256').update(readFileSync(file)).digest('hex')];
    }),
  );
}

it(
  'changes guidance, its range and its rescale without the teacher and without touching the cache',
  async () => {
    const first = await losses('five', { guidance: 5 });
    const cached = contents();
    expect(cached.size).toBeGreaterThan(4);
    // Whoever asked it again would fail.
    renameSync(at('teacher'), at('gone'));
    const others = [
      await losses('two', { guidance: 2 }),
      await losses('range', { guidance: [1, 7] }),
      await losses('rescaled', { guidance: 5, rescale: 0.7 }),
    ];
    for (const other of others) expect(other).not.toEqual(first);
    expect(await losses('five-again', { guidance: 5 })).toEqual(first);
    expect(contents()).toEqual(cached);
  },
  TIMEOUT_MS,
);
