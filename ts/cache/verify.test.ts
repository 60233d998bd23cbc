import { chmodSync, cpSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { damagedCopy } from '../../test/support/damage.ts';
import { FILES_DAMAGES, filesFixture } from '../../test/support/files-damages.ts';
import { SHARD_DAMAGES } from '../../test/support/shard-damages.ts';
import { makeTinyProject, type TinyProject } from '../../test/support/tiny-project.ts';
import { loadEngine } from '../native/index.ts';
import { silentProgress, type TaskOptions } from '../progress.ts';
import { buildCache } from './build-cache.ts';
import { verifyCache } from './verify.ts';

let project: TinyProject;
let cache: string;

beforeAll(async () => {
  const engine = await loadEngine();
  project = await makeTinyProject(engine);
  await buildCache(await project.recipe(), { engine });
  cache = join(project.folder, 'cache');
});
afterAll(() => project[Symbol.dispose]());

/** Codes that both backends find in a folder; fails when their reports differ in a byte. */
async function codesIn(folder: string): Promise<string[]> {
  const native = await verifyCache(folder, { backend: 'native' });
  const wasm = await verifyCache(folder, { backend: 'wasm' });
  expect(wasm.json).toBe(native.json);
  expect([native.backend, wasm.backend]).toEqual(['native', 'wasm']);
  const codes = new Set(native.report.findings.map(({ component, code }) => `${component}: ${code}`));
  expect(native.report.verdict).toBe(native.report.findings.some((f) => f.severity === 'error') ? 'damaged' : 'ok');
  return [...codes].sort();
}

describe('verifyCache', () => {
  it('finds nothing in a good cache, the same nothing by both backends', async () => {
    expect(await codesIn(cache)).toEqual([]);
    const { report } = await verifyCache(cache);
    expect(report.components.map(({ component, records }) => [component, records])).toEqual([
      ['latents', 6],
      ['text', 7],
      ['teachers/first', 72],
      ['teachers/second', 72],
    ]);
  });

  it.each(SHARD_DAMAGES)('finds $what, by both backends in the same words', async (damage) => {
    using copy = await damagedCopy(cache, damage);
    expect(await codesIn(copy.folder)).toEqual(expect.arrayContaining([...damage.named]));
  });

  it.each(['native', 'wasm'] as const)('refuses what is no cache (%s)', async (backend) => {
    const folder = join(project.folder, 'pictures');
    await expect(verifyCache(folder, { backend })).rejects.toMatchObject({ code: 'ERR_CACHE_MISSING', kind: 'input' });
    await expect(verifyCache(project.recipeFile, { backend })).rejects.toMatchObject({ what: 'is not a folder' });
  });

  it.each(['native', 'wasm'] as const)('ends when it is interrupted (%s)', async (backend) => {
    const signal = AbortSignal.abort(new Error('stop'));
    await expect(verifyCache(cache, { backend, signal })).rejects.toThrow('stop');
  });

  it('hears of progress and of an interruption while WASM computes', async () => {
    const controller = new AbortController();
    const totals: (number | undefined)[] = [];
    const progress = {
      ...silentProgress,
      start: (label: string, options?: TaskOptions) => {
        totals.push(options?.total);
        controller.abort(new Error('stop'));
        return silentProgress.start(label, options);
      },
    };
    const options = { backend: 'wasm', progress, signal: controller.signal } as const;
    await expect(verifyCache(cache, options)).rejects.toThrow('stop');
    const { report } = await verifyCache(cache);
    expect(totals).toEqual([report.components.reduce((sum, { bytes }) => sum + bytes, 0)]);
  });
});

describe('verifyCache of the files layout', () => {
  it('recognises what torch made, and says so by both backends in the same words', async () => {
    expect(await codesIn(filesFixture('shared'))).toEqual([
      'teacher_chaos: seeds-unknown',
      'teacher_v8: seeds-unknown',
    ]);
    const { report } = await verifyCache(filesFixture('shared'));
    expect(report).toMatchObject({ layout: 'files', verdict: 'ok' });
    expect(report.provenance?.[0]).toEqual({
      component: 'teacher_chaos',
      noise: [{ noise: 'torch-cpu-avx2', entries: 6 }],
      timesteps: [0, 1000],
      seeds: 'unknown',
    });
  });

  it('recognises what torch made on a GPU, by both backends in the same words', async () => {
    expect(await codesIn(filesFixture('cuda'))).toEqual(['teacher_chaos: seeds-unknown', 'teacher_v8: seeds-unknown']);
    const { report } = await verifyCache(filesFixture('cuda'));
    expect(report.provenance?.map(({ noise }) => noise)).toEqual([
      [{ noise: 'torch-cuda', entries: 6 }],
      [{ noise: 'torch-cuda', entries: 6 }],
    ]);
  });

  it('makes seeds anew for the images that are named, by both backends in the same words', async () => {
    const folder = join(project.folder, 'cats-folder');
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(join(folder, 'cats'), { recursive: true });
    for (const name of ['0', '1', '2', '3', '4', 'late']) writeFileSync(join(folder, 'cats', `${name}.png`), '');
    const reports = [];
    for (const backend of ['native', 'wasm'] as const) {
      reports.push(await verifyCache(filesFixture('shared'), { backend, images: { folder } }));
    }
    expect(reports[0]?.json).toBe(reports[1]?.json);
    const [first] = reports;
    expect(first?.report.provenance?.map(({ seeds }) => seeds)).toEqual(['image', 'image']);
    const codes = first?.report.findings.map(({ component, code, entry }) => `${component}: ${code} ${entry}`);
    expect(codes).toContain('teacher_v8: image-missing cats/late');
    expect(first?.report.counts['teacher_v8']).toEqual({ 'image-missing': 1, 'image-unknown': 1 });
  });

  it('names noise that differs between the teachers', async () => {
    expect(await codesIn(filesFixture('keyed'))).toContain('teacher_v8: noise-keyed-by-teacher');
  });

  it.each(FILES_DAMAGES)('finds $what, by both backends in the same words', async (damage) => {
    using copy = await damagedCopy(filesFixture('shared'), damage);
    expect(await codesIn(copy.folder)).toEqual(expect.arrayContaining([...damage.named]));
  });
});

describe.skipIf(process.platform !== 'linux')('what cannot be read', () => {
  it('is told in the same words by both backends, without paths of the machine', async () => {
    const folder = join(project.folder, 'odd', 'cache');
    rmSync(join(project.folder, 'odd'), { recursive: true, force: true });
    cpSync(cache, folder, { recursive: true });
    const odd = Buffer.concat([Buffer.from(`${folder}/text/odd`), Buffer.from([0xff]), Buffer.from('.txt')]);
    writeFileSync(odd, 'x');
    mkdirSync(Buffer.concat([Buffer.from(`${folder}/latents/`), Buffer.from([0xe2, 0x82])]));
    const plan = join(folder, 'teachers/second/plan.json');
    rmSync(plan);
    mkdirSync(plan);
    const shard = join(folder, 'text/shard-00000.safetensors');
    rmSync(shard);
    symlinkSync(shard, shard);
    const codes = await codesIn(folder);
    expect(codes).toEqual(expect.arrayContaining(['latents: file-unknown', 'text: file-unknown', 'text: unreadable']));
    const { json, report } = await verifyCache(folder, { backend: 'wasm' });
    expect(json).not.toContain(project.folder);
    expect(report.findings.map(({ file }) => file)).toContain('text/odd\ufffd.txt');
  });

  it.skipIf(process.getuid?.() === 0)('is named where permission is missing', async () => {
    const folder = join(project.folder, 'closed', 'cache');
    cpSync(cache, folder, { recursive: true });
    chmodSync(join(folder, 'text/shard-00000.safetensors'), 0);
    expect(await codesIn(folder)).toContain('text: unreadable');
  });
});
