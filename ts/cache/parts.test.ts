import { createHash } from 'node:crypto';
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { execute, type Outcome } from '../../test/support/execute.ts';
import { makeTinyProject, TINY_PICTURES, type TinyProject } from '../../test/support/tiny-project.ts';
import { type Engine, loadEngine } from '../native/index.ts';
import type { Part } from './build/part.ts';
import { buildCache } from './build-cache.ts';
import { sealCache } from './seal-cache.ts';
import { verifyCache } from './verify.ts';

/** Draws of a picture: four shards of each teacher. */
const DRAWS = 40;
const SHARDS = Math.ceil((TINY_PICTURES * DRAWS) / 64);

let engine: Engine;
let project: TinyProject;
/** Digest of every file of the cache that one process builds. */
let whole: Record<string, string>;

const at = (...parts: readonly string[]): string => join(project.folder, ...parts);
const part = (index: number, count: number): Part => ({ index, count, source: 'test' });
const recipe = (folder: string) => project.recipe(`cache.dir=${at(folder)}`, `cache.draws=${DRAWS}`);

beforeAll(async () => {
  engine = await loadEngine();
  project = await makeTinyProject(engine);
  await buildCache(await recipe('whole'), { engine });
  whole = digests('whole');
});
afterAll(() => project[Symbol.dispose]());

/** SHA-256 of every file under a folder of the project. */
function digests(folder: string): Record<string, string> {
  const files = readdirSync(at(folder), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const pairs = files.map((entry) => {
    const path = join(entry.parentPath, entry.name);
    return [path.slice(at(folder).length + 1), createHash('sha256').update(readFileSync(path)).digest('hex')] as const;
  });
  return Object.fromEntries(pairs.sort());
}

/** `potstill cache …` in a process of its own, as a job's task has it. */
function potstill(words: readonly string[], environment: Readonly<Record<string, string>> = {}): Promise<Outcome> {
  const main = join(import.meta.dirname, '../cli/main.ts');
  const settings = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
  return execute('env', [...settings, process.execPath, '--import', 'tsx', main, 'cache', ...words], process.cwd());
}

const buildWords = (folder: string): string[] => [
  ...['build', project.recipeFile, '--set', `cache.dir=${at(folder)}`, '--set', `cache.draws=${DRAWS}`],
];

describe('parts of a build', () => {
  it('one after another in any order, joined, are what one process builds', async () => {
    const given = await recipe('parts');
    const built: (readonly number[])[] = [];
    for (const index of [2, 0, 1]) {
      const { components } = await buildCache(given, { engine, part: part(index, 3) });
      built.push(components.map(({ computed }) => computed));
      expect(components.map(({ sealed }) => sealed)).toEqual([true, true, false, false]);
    }
    // The first part makes latents and text whole; each has its own shards of the teachers, the last of them a short one.
    const [all, last] = [TINY_PICTURES * DRAWS, (TINY_PICTURES * DRAWS) % 64];
    expect(built).toEqual([
      [TINY_PICTURES, TINY_PICTURES + 1, 64, 64],
      [0, 0, 64 + last, 64 + last],
      [0, 0, 64, 64],
    ]);
    const sealed = await sealCache(at('parts'));
    expect(sealed).toEqual([
      { component: 'latents', records: TINY_PICTURES, shards: 1, missing: [], state: 'before' },
      { component: 'text', records: TINY_PICTURES + 1, shards: 1, missing: [], state: 'before' },
      { component: 'teachers/first', records: all, shards: SHARDS, missing: [], state: 'now' },
      { component: 'teachers/second', records: all, shards: SHARDS, missing: [], state: 'now' },
    ]);
    expect(digests('parts')).toEqual(whole);
    expect((await verifyCache(at('parts'))).report).toMatchObject({ verdict: 'ok', findings: [] });
    expect((await sealCache(at('parts'))).every(({ state }) => state === 'before')).toBe(true);
  });

  it('all at once, as tasks of an array, are that too', async () => {
    const slurm = (id: number): Record<string, string> => ({
      SLURM_ARRAY_TASK_ID: String(id),
      SLURM_ARRAY_TASK_COUNT: '2',
      SLURM_ARRAY_TASK_MIN: '1',
      SLURM_ARRAY_TASK_MAX: '2',
    });
    const outcomes = await Promise.all([1, 2].map((id) => potstill([...buildWords('array'), '--json'], slurm(id))));
    for (const [index, { code, stdout, stderr }] of outcomes.entries()) {
      expect(code, stderr).toBe(0);
      expect(JSON.parse(stdout)).toMatchObject({ ok: true, part: { index: index + 1, count: 2 } });
      expect(stderr).toContain(`part ${index + 1} of 2 (SLURM_ARRAY_TASK_ID=${index + 1} of 2)`);
    }
    const joined = await potstill(['seal', at('array'), '--json']);
    expect(joined.code, joined.stderr).toBe(0);
    expect(JSON.parse(joined.stdout)).toMatchObject({ ok: true });
    expect(digests('array')).toEqual(whole);
  });

  it('that are missing are named by seal and by verification, and run again', async () => {
    const given = await recipe('partial');
    await buildCache(given, { engine, part: part(1, 3) });
    const partial = await sealCache(at('partial'));
    expect(partial[2]).toMatchObject({ state: 'incomplete', missing: [0, 2, 3] });
    expect(existsSync(at('partial/teachers/first/seal.json'))).toBe(false);
    const { code, stdout } = await potstill(['seal', at('partial')]);
    expect(code).toBe(1);
    expect(stdout).toContain('NOT COMPLETE: 2 of 4 components');
    expect(stdout).toContain('teachers/first: 240 records in 4 shards, 3 of 4 MISSING: 0, 2, 3');

    const reports = await Promise.all(
      (['native', 'wasm'] as const).map((backend) => verifyCache(at('partial'), { backend })),
    );
    expect(reports[0]?.json).toBe(reports[1]?.json);
    expect(reports[0]?.report.findings).toMatchObject(
      ['teachers/first', 'teachers/second'].map((component) => ({
        component,
        code: 'unsealed',
        found: 'no seal; 1 of 4 shards, without 0, 2, 3',
      })),
    );

    // A shard that was cut short on its way is missing too; the part that it belongs to builds it again.
    const cut = at('partial/teachers/first/shard-00001.safetensors');
    writeFileSync(cut, readFileSync(cut).subarray(0, 999));
    expect((await sealCache(at('partial')))[2]).toMatchObject({ missing: [0, 1, 2, 3] });
    for (const index of [0, 1, 2]) await buildCache(given, { engine, part: part(index, 3) });
    await sealCache(at('partial'));
    expect(digests('partial')).toEqual(whole);
  });

  it('need not be run to their end: a build without parts does the rest and seals', async () => {
    const given = await recipe('rest');
    await buildCache(given, { engine, part: part(0, 2) });
    const { components } = await buildCache(given, { engine });
    expect(components.slice(2)).toMatchObject(
      [1, 2].map(() => ({ computed: 64 + ((TINY_PICTURES * DRAWS) % 64), missing: 0, sealed: true })),
    );
    expect(digests('rest')).toEqual(whole);
  });

  it('can be more than there are shards', async () => {
    const given = await recipe('many');
    for (const index of [7, 3, 0, 1, 2, 9]) await buildCache(given, { engine, part: part(index, 10) });
    await sealCache(at('many'));
    expect(digests('many')).toEqual(whole);
  });

  it('wait for latents and text, which a teacher is made on', async () => {
    cpSync(at('whole'), at('waiting'), { recursive: true });
    for (const file of ['text/seal.json', 'text/shard-00000.safetensors', 'teachers/first/seal.json']) {
      rmSync(at('waiting', file));
    }
    const { code, stdout } = await potstill(['seal', at('waiting')]);
    expect(code).toBe(1);
    expect(stdout).toContain('text: 7 records in 1 shards, 1 of 1 MISSING: 0');
    expect(stdout).toContain('teachers/first: 240 records in 4 shards, all there, but latents or text');
    expect(stdout).toContain('teachers/second: 240 records in 4 shards, sealed before');
  });
});

describe('sealing', () => {
  it('refuses a shard whose records are not the plan’s, and a folder that is no cache', async () => {
    cpSync(at('whole'), at('twice'), { recursive: true });
    rmSync(at('twice/teachers/first/seal.json'));
    cpSync(at('twice/teachers/first/shard-00001.safetensors'), at('twice/teachers/first/shard-00004.safetensors'));
    const { code, stderr } = await potstill(['seal', at('twice')]);
    expect(code).toBe(2);
    expect(stderr).toContain('shard-00004.safetensors is beyond the plan, which has 4 shards');
    await expect(sealCache(at('pictures'))).rejects.toMatchObject({ code: 'ERR_CACHE_MISSING' });
    await expect(sealCache(at('nowhere'))).rejects.toMatchObject({ code: 'ERR_CACHE_MISSING' });
  });
});

describe('potstill cache build --shard', () => {
  it.each([
    ['0/4', {}, 'there is no part 0 of 4'],
    ['x', {}, 'is not i/n'],
    [undefined, { JOB_COMPLETION_INDEX: '1' }, 'JOB_COMPLETIONS is not set'],
  ])('%s refuses what is no part, and writes nothing', async (shard, environment, what) => {
    const words = shard === undefined ? [] : ['--shard', shard];
    const { code, stderr } = await potstill([...buildWords('none'), ...words], environment);
    expect(stderr).toContain(`${what}`);
    expect(stderr).toContain('[ERR_SHARD]');
    expect(code).toBe(2);
    expect(existsSync(at('none'))).toBe(false);
  });

  it('1/1 builds all of it, whatever the environment says', async () => {
    const { code, stdout } = await potstill([...buildWords('all'), '--shard', '1/1'], { JOB_COMPLETION_INDEX: '1' });
    expect(code).toBe(0);
    expect(stdout).toContain('sealed in');
    expect(digests('all')).toEqual(whole);
  });
});
