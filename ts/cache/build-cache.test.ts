import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeEchoUnet } from '../../test/support/echo-unet.ts';
import { execute, type Outcome } from '../../test/support/execute.ts';
import { makeTinyProject, TINY_PICTURES, type TinyProject } from '../../test/support/tiny-project.ts';
import { interruptedError } from '../errors.ts';
import { addon, type Engine, loadEngine, unwrap } from '../native/index.ts';
import { silentProgress } from '../progress.ts';
import { buildCache } from './build-cache.ts';

/** The project's draws of a picture: two shards of records. */
const DRAWS = 12;

let engine: Engine;
let project: TinyProject;
/** Digest of every file of the cache that an undisturbed build makes. */
let whole: Record<string, string>;

beforeAll(async () => {
  engine = await loadEngine();
  project = await makeTinyProject(engine);
  await buildCache(await project.recipe(), { engine });
  whole = digests('cache');
});
afterAll(() => project[Symbol.dispose]());

/** Node's words for `potstill cache build` of the project into a folder, from source. */
function buildWords(folder: string): string[] {
  const main = join(import.meta.dirname, '../cli/main.ts');
  return ['--import', 'tsx', main, 'cache', 'build', project.recipeFile, '--set', `cache.dir=${folder}`];
}

/** SHA-256 of every file under a folder of the project. */
function digests(folder: string): Record<string, string> {
  const root = join(project.folder, folder);
  const files = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const pairs = files.map((entry) => {
    const path = join(entry.parentPath, entry.name);
    return [path.slice(root.length + 1), createHash('sha256').update(readFileSync(path)).digest('hex')] as const;
  });
  return Object.fromEntries(pairs.sort());
}

describe('buildCache', () => {
  it('makes latents, text and every teacher, sealed', () => {
    expect(Object.keys(whole).filter((file) => !file.includes('shard'))).toEqual([
      'latents/plan.json',
      'latents/seal.json',
      'teachers/first/plan.json',
      'teachers/first/seal.json',
      'teachers/second/plan.json',
      'teachers/second/seal.json',
      'text/plan.json',
      'text/seal.json',
    ]);
    const shards = (component: string): number =>
      Object.keys(whole).filter((file) => file.startsWith(`${component}/shard-`)).length;
    expect([shards('latents'), shards('text'), shards('teachers/first')]).toEqual([1, 1, 2]);
  });

  it('leaves a sealed cache alone', async () => {
    const { components } = await buildCache(await project.recipe(), { engine });
    expect(components.map(({ name, records, computed }) => [name, records, computed])).toEqual([
      ['latents', TINY_PICTURES, 0],
      ['text', TINY_PICTURES + 1, 0],
      ['teachers/first', TINY_PICTURES * DRAWS, 0],
      ['teachers/second', TINY_PICTURES * DRAWS, 0],
    ]);
    expect(digests('cache')).toEqual(whole);
  });

  it('gives the same bytes in another folder', async () => {
    await buildCache(await project.recipe('cache.dir=again'.replace('again', join(project.folder, 'again'))), {
      engine,
    });
    expect(digests('again')).toEqual(whole);
  });

  it('goes on after an interruption to the same bytes', async () => {
    const controller = new AbortController();
    const recipe = await project.recipe(`cache.dir=${join(project.folder, 'interrupted')}`);
    const progress = {
      ...silentProgress,
      start: (label: string) => ({
        ...silentProgress.start(label),
        // In the middle of the first teacher's second shard.
        advance: (() => {
          let done = 0;
          return (amount = 1): void => {
            done += amount;
            if (label === 'teacher first' && done > 64) controller.abort(interruptedError());
          };
        })(),
      }),
    };
    await expect(buildCache(recipe, { engine, progress, signal: controller.signal })).rejects.toMatchObject({
      code: 'ERR_INTERRUPTED',
    });
    expect(Object.keys(digests('interrupted')).filter((file) => file.startsWith('teachers'))).toEqual([
      'teachers/first/plan.json',
      'teachers/first/shard-00000.safetensors',
    ]);
    const { components } = await buildCache(recipe, { engine });
    expect(components.map(({ computed }) => computed)).toEqual([
      0,
      0,
      TINY_PICTURES * DRAWS - 64,
      TINY_PICTURES * DRAWS,
    ]);
    expect(digests('interrupted')).toEqual(whole);
  });

  it('goes on after a kill to the same bytes', async () => {
    const folder = join(project.folder, 'killed');
    const child = spawn(process.execPath, buildWords(folder), { stdio: 'ignore' });
    const ended = new Promise((resolve) => child.on('close', resolve));
    const seen = (): boolean => existsSync(join(folder, 'teachers/first/shard-00000.safetensors'));
    while (!seen() && child.exitCode === null) await wait(1);
    child.kill('SIGKILL');
    await ended;
    expect(seen()).toBe(true);
    await buildCache(await project.recipe(`cache.dir=${folder}`), { engine });
    expect(digests('killed')).toEqual(whole);
  });

  it('is alone in a component: another process is told whose turn it is, and may build the other parts', async () => {
    const folder = join(project.folder, 'shared');
    const build = (...words: readonly string[]): Promise<Outcome> =>
      execute(process.execPath, [...buildWords(folder), ...words], process.cwd());
    cpSync(join(project.folder, 'cache'), folder, { recursive: true });
    const plan = readFileSync(join(folder, 'teachers/first/plan.json'), 'utf8');
    rmSync(join(folder, 'teachers/first/seal.json'));
    rmSync(join(folder, 'teachers/second'), { recursive: true });
    const here = unwrap(await addon().beginCache(folder, plan));
    const refused = await build();
    expect(refused).toMatchObject({ code: 2 });
    expect(refused.stderr).toContain(`teachers/first is being built by process ${process.pid}`);
    expect(refused.stderr).toContain('Wait until that build has ended');
    expect(await build('--only', 'second')).toMatchObject({ code: 0 });
    here.end();
    expect(await build()).toMatchObject({ code: 0 });
    expect(digests('shared')).toEqual(whole);
  });

  it('builds one part alone, in order', async () => {
    const recipe = await project.recipe(`cache.dir=${join(project.folder, 'parts')}`);
    await expect(buildCache(recipe, { engine, only: 'first' })).rejects.toMatchObject({ code: 'ERR_CACHE_PART' });
    for (const only of ['text', 'latents', 'second']) await buildCache(recipe, { engine, only });
    expect(existsSync(join(project.folder, 'parts/teachers/first'))).toBe(false);
    const without = await project.recipe(
      `cache.dir=${join(project.folder, 'parts')}`,
      `teachers[0].model=${join(project.folder, 'nowhere')}`,
    );
    expect((await buildCache(without, { engine, only: 'second' })).components).toMatchObject([{ computed: 0 }]);
    await expect(buildCache(recipe, { engine, only: 'third' })).rejects.toMatchObject({
      what: 'the recipe has no teacher "third"',
      remedy: 'Choose one of: latents, text, first, second.',
    });
  });

  it('adds a teacher without touching the rest, and draws the same for all', async () => {
    const folder = join(project.folder, 'added');
    cpSync(join(project.folder, 'cache'), folder, { recursive: true });
    rmSync(join(folder, 'teachers/second'), { recursive: true });
    await buildCache(await project.recipe(`cache.dir=${folder}`), { engine });
    expect(digests('added')).toEqual(whole);
  });

  it('refuses a cache of another teacher, naming what differs', async () => {
    await writeEchoUnet(engine, join(project.folder, 'other'), 4);
    const recipe = await project.recipe(`teachers[0].model=${join(project.folder, 'other')}`);
    await expect(buildCache(recipe, { engine })).rejects.toMatchObject({
      code: 'ERR_CACHE_FOREIGN',
      kind: 'input',
      where: join(project.folder, 'cache/teachers/first'),
      what: expect.stringContaining('teacher weights digest'),
    });
    expect(digests('cache')).toEqual(whole);
  });

  it('needs no teacher once its records are there', async () => {
    const recipe = await project.recipe(`teachers[0].model=${join(project.folder, 'gone')}`);
    const { components } = await buildCache(recipe, { engine });
    expect(components.every(({ computed }) => computed === 0)).toBe(true);
    const others = await project.recipe(`teachers[0].model=${join(project.folder, 'gone')}`, 'cache.draws=8');
    await expect(buildCache(others, { engine })).rejects.toMatchObject({
      what: expect.stringContaining('draws per view (cached 12, wanted 8)'),
    });
  });

  it('names the image that cannot be read, and writes nothing', async () => {
    const folder = join(project.folder, 'broken');
    cpSync(join(project.folder, 'pictures'), folder, { recursive: true });
    const [image = ''] = readdirSync(folder).filter((name) => name.endsWith('.png'));
    writeFileSync(join(folder, image), readFileSync(join(folder, image)).subarray(0, 300));
    const recipe = await project.recipe(`data[0].images=${folder}`, `cache.dir=${join(project.folder, 'none')}`);
    await expect(buildCache(recipe, { engine })).rejects.toMatchObject({
      code: 'ERR_IMAGE',
      kind: 'input',
      where: join(folder, image),
    });
    expect(existsSync(join(project.folder, 'none'))).toBe(false);
  });

  it('names the entry of a prediction that cannot be stored', async () => {
    const folder = join(project.folder, 'infinite');
    await writeEchoUnet(engine, folder, 5, 1e5); // finite weights whose prediction f16 cannot hold
    const recipe = await project.recipe(
      `teachers[0].model=${folder}`,
      `cache.dir=${join(project.folder, 'not-finite')}`,
    );
    await expect(buildCache(recipe, { engine })).rejects.toMatchObject({
      code: 'ERR_CACHE_NOT_FINITE',
      kind: 'input',
      where: expect.stringMatching(
        /^prediction of teacher first for image [0-9a-f]{12}… \(64x64\+0\+0\), ".+", draw 0$/,
      ),
      what: expect.stringMatching(/at value 0 of cond is beyond what F16 holds$/),
    });
  });
});
