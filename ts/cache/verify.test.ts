import {
  chmodSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { viewSafetensors } from '../../test/support/safetensors.ts';
import { makeTinyProject, type TinyProject } from '../../test/support/tiny-project.ts';
import { addon, loadEngine, unwrap } from '../native/index.ts';
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

const SHARD = 'shard-00001.safetensors';

/** Changes bytes of the first teacher's second shard. */
function inShard(folder: string, change: (tensors: ReturnType<typeof viewSafetensors>) => void): void {
  const path = join(folder, 'teachers/first', SHARD);
  const bytes = readFileSync(path);
  change(viewSafetensors(bytes));
  writeFileSync(path, bytes);
}

/** What someone does who hides a change: the digests are made anew. */
async function sealAgain(folder: string): Promise<void> {
  rmSync(join(folder, 'teachers/first/seal.json'));
  const plan = readFileSync(join(folder, 'teachers/first/plan.json'), 'utf8');
  const builder = unwrap(await addon().beginCache(folder, plan));
  unwrap(await builder.seal());
}

/** Exchanges the first two records of a tensor, each of 2·4·8·8 bytes. */
function swapRecords(bytes: Buffer): void {
  const size = 512;
  const first = Buffer.from(bytes.subarray(0, size));
  bytes.copyWithin(0, size, 2 * size);
  first.copy(bytes, size);
}

const DAMAGES: readonly [string, (folder: string) => void | Promise<void>, readonly string[]][] = [
  [
    'a bit flipped',
    (folder) =>
      inShard(folder, (tensors) => {
        const bytes = tensors.get('cond')?.bytes;
        bytes?.writeUInt8((bytes.readUInt8(1000) ^ 1) & 0xff, 1000);
      }),
    ['teachers/first: shard-digest'],
  ],
  [
    'the end of a file cut off',
    (folder) => truncateSync(join(folder, 'latents/shard-00000.safetensors'), 3000),
    ['latents: shard-header', 'latents: shard-size'],
  ],
  ['a shard deleted', (folder) => rmSync(join(folder, 'teachers/second', SHARD)), ['teachers/second: shard-missing']],
  [
    'predictions exchanged, the digests made anew',
    async (folder) => {
      inShard(folder, (tensors) => swapRecords(tensors.get('cond')?.bytes ?? Buffer.alloc(0)));
      await sealAgain(folder);
    },
    ['teachers/first: prediction-swapped'],
  ],
  [
    'a timestep changed, the digests made anew',
    async (folder) => {
      inShard(folder, (tensors) => tensors.get('timestep')?.bytes.writeUInt8(1, 0));
      await sealAgain(folder);
    },
    ['teachers/first: timestep-mismatch'],
  ],
  [
    'a NaN, the digests made anew',
    async (folder) => {
      inShard(folder, (tensors) => tensors.get('uncond')?.bytes.writeUInt16LE(0x7e00, 40));
      await sealAgain(folder);
    },
    ['teachers/first: not-finite'],
  ],
  [
    'a plan edited to another seed',
    (folder) => {
      const path = join(folder, 'teachers/first/plan.json');
      writeFileSync(path, readFileSync(path, 'utf8').replace('"baseSeed":42', '"baseSeed":43'));
    },
    ['teachers/first: plan-edited', 'teachers/first: seed-mismatch'],
  ],
  [
    'a plan that is no JSON',
    (folder) => writeFileSync(join(folder, 'teachers/first/plan.json'), '{"format":'),
    ['teachers/first: plan-invalid'],
  ],
  [
    'an unfinished build',
    (folder) => {
      rmSync(join(folder, 'teachers/first/seal.json'));
      rmSync(join(folder, 'teachers/first', SHARD));
      writeFileSync(join(folder, 'teachers/first/.potstill-a1.tmp'), 'half');
    },
    ['teachers/first: leftover', 'teachers/first: shard-missing', 'teachers/first: unsealed'],
  ],
  [
    'a header of eight exabytes',
    (folder) => writeFileSync(join(folder, 'text/shard-00000.safetensors'), Buffer.alloc(64, 0xff)),
    ['text: shard-header', 'text: shard-size'],
  ],
  [
    'a link out of the cache',
    (folder) => {
      const path = join(folder, 'text/shard-00000.safetensors');
      renameSync(path, join(folder, '../text.moved'));
      symlinkSync('../../text.moved', path);
    },
    ['text: unreadable'],
  ],
  [
    'files that belong to nothing',
    (folder) => {
      mkdirSync(join(folder, 'teachers/..hidden'), { recursive: true });
      writeFileSync(join(folder, 'teachers/..hidden/plan.json'), '{}');
      writeFileSync(join(folder, 'latents/notes.txt'), 'mine');
    },
    ['latents: file-unknown'],
  ],
];

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

  it.each(DAMAGES)('finds %s, by both backends in the same words', async (_, damage, codes) => {
    const folder = join(project.folder, 'damaged', 'cache');
    rmSync(join(project.folder, 'damaged'), { recursive: true, force: true });
    cpSync(cache, folder, { recursive: true });
    await damage(folder);
    const found = await codesIn(folder);
    expect(found).toEqual(expect.arrayContaining([...codes]));
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
  const fixture = (name: string): string =>
    new URL(`../../test/fixtures/files_cache/${name}`, import.meta.url).pathname;

  it('recognises what torch made, and says so by both backends in the same words', async () => {
    expect(await codesIn(fixture('shared'))).toEqual(['teacher_chaos: seeds-unknown', 'teacher_v8: seeds-unknown']);
    const { report } = await verifyCache(fixture('shared'));
    expect(report).toMatchObject({ layout: 'files', verdict: 'ok' });
    expect(report.provenance?.[0]).toEqual({
      component: 'teacher_chaos',
      noise: [{ noise: 'torch-cpu-avx2', entries: 6 }],
      timesteps: [0, 1000],
      seeds: 'unknown',
    });
  });

  it('makes seeds anew for the images that are named, by both backends in the same words', async () => {
    const folder = join(project.folder, 'cats-folder');
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(join(folder, 'cats'), { recursive: true });
    for (const name of ['0', '1', '2', '3', '4', 'late']) writeFileSync(join(folder, 'cats', `${name}.png`), '');
    const reports = [];
    for (const backend of ['native', 'wasm'] as const) {
      reports.push(await verifyCache(fixture('shared'), { backend, images: { folder } }));
    }
    expect(reports[0]?.json).toBe(reports[1]?.json);
    const [first] = reports;
    expect(first?.report.provenance?.map(({ seeds }) => seeds)).toEqual(['image', 'image']);
    const codes = first?.report.findings.map(({ component, code, entry }) => `${component}: ${code} ${entry}`);
    expect(codes).toContain('teacher_v8: image-missing cats/late');
    expect(first?.report.counts['teacher_v8']).toEqual({ 'image-missing': 1, 'image-unknown': 1 });
  });

  it('names noise that differs between the teachers', async () => {
    expect(await codesIn(fixture('keyed'))).toContain('teacher_v8: noise-keyed-by-teacher');
  });

  it.each<[string, (file: string) => void, string]>([
    ['a file that is missing', (file) => rmSync(file), 'entry-missing'],
    ['a file cut short', (file) => truncateSync(file, 1200), 'file-header'],
    ['a header of eight exabytes', (file) => writeFileSync(file, Buffer.alloc(64, 0xff)), 'file-header'],
    [
      'another resolution',
      (file) => inFile(file, 'resolution', (bytes) => bytes.writeInt32LE(72, 0)),
      'resolution-mismatch',
    ],
    ['another timestep', (file) => inFile(file, 'timestep', (bytes) => bytes.writeInt32LE(3, 0)), 'timestep-mismatch'],
    ['other noise', (file) => inFile(file, 'noise', (bytes) => bytes.writeUInt16LE(0x4200, 90)), 'noise-mismatch'],
    [
      'a value that is no number',
      (file) => inFile(file, 'teacher_pred', (bytes) => bytes.writeUInt16LE(0x7e00, 8)),
      'not-finite',
    ],
    ['other text', (file) => inFile(file, 'pooled_embeds', (bytes) => bytes.writeUInt16LE(0x3c00, 0)), 'text-differs'],
  ])('finds %s', async (_, damage, code) => {
    const folder = join(project.folder, 'files', 'cache');
    rmSync(join(project.folder, 'files'), { recursive: true, force: true });
    cpSync(fixture('shared'), folder, { recursive: true });
    const [name = ''] = readdirSync(join(folder, 'teacher_v8'));
    damage(join(folder, 'teacher_v8', name));
    expect(await codesIn(folder)).toContain(`teacher_v8: ${code}`);
  });
});

/** Changes bytes of a tensor of a file. */
function inFile(path: string, tensor: string, change: (bytes: Buffer) => void): void {
  const bytes = readFileSync(path);
  change(viewSafetensors(bytes).get(tensor)?.bytes ?? Buffer.alloc(0));
  writeFileSync(path, bytes);
}

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
