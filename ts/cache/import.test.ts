import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { potstill } from '../../test/support/command-line.ts';
import { viewSafetensors } from '../../test/support/safetensors.ts';
import { makeTinyProject, type TinyProject } from '../../test/support/tiny-project.ts';
import { type Engine, loadEngine, scope } from '../native/index.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { buildCache } from './build-cache.ts';
import { ensureCache } from './ensure-cache.ts';
import { exportCache } from './export.ts';
import { importCache } from './import.ts';
import { verifyCache } from './verify.ts';

let engine: Engine;
let project: TinyProject;
let files: string;

const at = (name: string): string => join(project.folder, name);

/** The recipe of a cache in a folder of its own, for a method that reads what files hold. */
const recipeOf = (dir: string, ...set: readonly string[]): Promise<ResolvedRecipe> =>
  project.recipe('method={"id":"multi-teacher"}', `cache.dir=${at(dir)}`, 'cache.draws=1', ...set);

beforeAll(async () => {
  engine = await loadEngine();
  project = await makeTinyProject(engine);
  await buildCache(await recipeOf('source'), { engine });
  files = at('files');
  await exportCache(at('source'), files, { images: at('pictures') });
});
afterAll(() => project[Symbol.dispose]());

/** Values of all samples of a cache: predictions of both teachers, noise, timesteps. */
async function valuesOf(recipe: ResolvedRecipe): Promise<readonly Float32Array[]> {
  const opened = await ensureCache(recipe, engine);
  const rows = opened.samples.map((_, sample) => ({ sample, draw: 0, unconditional: false }));
  return scope(async () => {
    const { teachers, noise, timesteps } = opened.batch(rows, ['cond']);
    const tensors = [...teachers.map(({ cond }) => cond), noise];
    const values = await Promise.all(tensors.map(async (tensor) => Float32Array.from((await tensor?.toArray()) ?? [])));
    return [...values, Float32Array.from(timesteps ?? [])];
  });
}

describe('importCache', () => {
  it('loses nothing: what is trained on is what was exported', async () => {
    const recipe = await recipeOf('imported', 'cache.noise=stored');
    expect(await importCache(files, recipe, { engine })).toEqual({
      dir: at('imported'),
      teachers: [
        { id: 'first', records: 6, otherTexts: 0, unusedFiles: 0 },
        { id: 'second', records: 6, otherTexts: 0, unusedFiles: 0 },
      ],
    });
    for (const backend of ['native', 'wasm'] as const) {
      const { report } = await verifyCache(at('imported'), { backend });
      expect(report.findings).toEqual([]);
    }
    const [first, second, noise, timesteps] = await valuesOf(recipe);
    const [sourceFirst, sourceSecond, sourceNoise, sourceTimesteps] = await valuesOf(await recipeOf('source'));
    expect(first).toEqual(sourceFirst);
    expect(second).toEqual(sourceSecond);
    expect(timesteps).toEqual(sourceTimesteps);
    // Noise was rounded to f16 in the files: relative 2⁻¹¹.
    const difference = (noise ?? []).map((value, i) => Math.abs(value - (sourceNoise?.[i] ?? Number.NaN)));
    expect(Math.max(...difference)).toBeLessThan(4 / 2048);
    // Again: nothing is left to do.
    // What was not looked at is not claimed.
    expect((await importCache(files, recipe, { engine })).teachers[0]).toEqual({
      id: 'first',
      records: 6,
      unusedFiles: 0,
    });
  });

  it('trains on what was imported, from the command line', async () => {
    const set = ['method={"id":"multi-teacher"}', `cache.dir=${at('trained')}`, 'cache.noise=stored'];
    const words = set.flatMap((text) => ['--set', text]);
    const imported = await potstill('cache', 'import', files, project.recipeFile, ...words);
    expect(imported.code, imported.err).toBe(0);
    expect(imported.out).toContain('teachers/second: 6 records');
    expect(imported.out).not.toContain('set cache.noise');
    const trained = await potstill('train', project.recipeFile, ...words, '--set', `output=${at('run')}`);
    expect(trained.code, trained.err).toBe(0);
  });

  it('trains on files where they lie, and leaves them as they are', async () => {
    cpSync(files, at('in-place'), { recursive: true });
    const inPlace = await recipeOf('in-place', 'cache.layout=files');
    const own = readdirSync(at('in-place/first'));
    const [imported, found] = [await recipeOf('imported', 'cache.noise=stored'), inPlace].map(valuesOf);
    expect(await found).toEqual(await imported);
    expect(readdirSync(at('in-place/first'))).toEqual(own);
    expect(readdirSync(at('in-place/shards')).sort()).toEqual(['latents', 'teachers', 'text']);
    // Still a cache of files, with its shards beside it.
    expect((await verifyCache(at('in-place'))).report).toMatchObject({ layout: 'files', verdict: 'ok' });
    const set = ['method={"id":"multi-teacher"}', `cache.dir=${at('in-place')}`, 'cache.layout=files'];
    const words = [...set, `output=${at('run-of-files')}`].flatMap((text) => ['--set', text]);
    const trained = await potstill('train', project.recipeFile, ...words);
    expect(trained.code, trained.err).toBe(0);
    const built = await potstill('cache', 'build', project.recipeFile, ...words);
    expect(built.err).toContain('a cache in the files layout is read, not built');
    expect(built.code).toBe(2);
    await expect(importCache(files, inPlace, { engine })).rejects.toMatchObject({ where: 'cache.layout' });
  });

  it('does not train on files that are damaged', async () => {
    cpSync(files, at('spoilt'), { recursive: true });
    const [name = ''] = readdirSync(at('spoilt/first'));
    const bytes = readFileSync(at(`spoilt/first/${name}`));
    viewSafetensors(bytes).get('noise')?.bytes.fill(0);
    writeFileSync(at(`spoilt/first/${name}`), bytes);
    const recipe = await recipeOf('spoilt', 'cache.layout=files');
    await expect(ensureCache(recipe, engine)).rejects.toMatchObject({ code: 'ERR_CACHE_DAMAGED', kind: 'check' });
    expect(existsSync(at('spoilt/shards'))).toBe(false);
  });

  it('tells of other text and of files that nobody asked for', async () => {
    cpSync(files, at('other'), { recursive: true });
    const [name = ''] = readdirSync(at('other/first'));
    cpSync(at(`other/first/${name}`), at(`other/first/${'0'.repeat(40)}_64x64.safetensors`));
    const bytes = readFileSync(at(`other/first/${name}`));
    viewSafetensors(bytes).get('encoder_hidden_states')?.bytes.fill(0x3c);
    writeFileSync(at(`other/first/${name}`), bytes);
    const { teachers } = await importCache(at('other'), await recipeOf('from-other'), { engine });
    expect(teachers).toEqual([
      { id: 'first', records: 6, otherTexts: 1, unusedFiles: 1 },
      { id: 'second', records: 6, otherTexts: 0, unusedFiles: 0 },
    ]);
  });

  it.each<[string, readonly string[], string]>([
    ['unconditional predictions', ['method={"id":"cfg","guidance":5}'], 'unconditional ones'],
    ['dropped captions', ['data[0].captionDropout=0.1'], 'unconditional ones'],
    ['mirrored views', ['data[0].flip=true'], 'no mirrored views'],
    ['shuffled captions', ['data[0].shuffle={"variants":2}'], 'one order of a caption'],
    ['no teacher', ['method={"id":"denoise"}'], 'reads no teacher'],
    ['pictures of another size', ['data[0].size=[32,32]'], '6 of 6 samples have no file'],
  ])('refuses %s', async (_, set, what) => {
    const recipe = await recipeOf('refused', ...set);
    await expect(importCache(files, recipe, { engine })).rejects.toMatchObject({
      kind: 'input',
      what: expect.stringContaining(what),
      remedy: expect.stringMatching(/./),
    });
  });

  it('refuses to give one prediction to two samples', async () => {
    cpSync(at('pictures'), at('pictures-too'), { recursive: true });
    const captions = at('pictures-too/captions.jsonl');
    writeFileSync(captions, readFileSync(captions, 'utf8').replaceAll(/"caption": "/g, '$&other '));
    const data = ['pictures', 'pictures-too'].map((images) => ({ images: at(images), captions: 'jsonl' }));
    const recipe = await recipeOf('twice', `data=${JSON.stringify(data)}`);
    await expect(importCache(files, recipe, { engine })).rejects.toMatchObject({
      code: 'ERR_CACHE_ENTRY',
      what: expect.stringContaining('6 of 12 samples would have the prediction of another one'),
    });
  });

  it('refuses files that are damaged, and a recipe whose noise was never imported', async () => {
    cpSync(files, at('damaged'), { recursive: true });
    const [name = ''] = readdirSync(at('damaged/second'));
    writeFileSync(at(`damaged/second/${name}`), 'x');
    await expect(importCache(at('damaged'), await recipeOf('d'), { engine })).rejects.toMatchObject({
      code: 'ERR_CACHE_ENTRY',
      what: expect.stringContaining(`second/${name}`),
    });
    rmSync(at('damaged'), { recursive: true });
    const never = await recipeOf('never', 'cache.noise=stored');
    await expect(buildCache(never, { engine })).rejects.toMatchObject({ code: 'ERR_CACHE_PART' });
  });
});
