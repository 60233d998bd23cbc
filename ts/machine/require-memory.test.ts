import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { potstill } from '../../test/support/command-line.ts';
import { writeTinyModel } from '../../test/support/tiny-model.ts';
import { makeTinyProject, type TinyProject } from '../../test/support/tiny-project.ts';
import { writeTinySdxl } from '../../test/support/tiny-sdxl.ts';
import { type Engine, loadEngine } from '../native/index.ts';
import { groupMemory, parseAddressSpace } from './limits.ts';
import { weightBytes } from './model-memory.ts';
import { requireMemory } from './require-memory.ts';

let folder = '';
const at = (name: string): string => join(folder, name);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'potstill-memory-'));
});
afterAll(() => rm(folder, { recursive: true }));

test('work is refused by its bytes, each part named, and allowed when it fits', async () => {
  const needs = [
    { what: 'weights', bytes: 3e9 },
    { what: 'gradients', bytes: 3e9 },
  ];
  const options = { where: 'student', remedy: 'Take less.' };
  await requireMemory(needs, { ...options, available: 6e9 });
  await expect(requireMemory(needs, { ...options, available: 5.99e9 })).rejects.toMatchObject({
    code: 'ERR_MEMORY',
    kind: 'machine',
    where: 'student',
    what: 'not enough memory: at least 6.00 GB needed (weights 3.00 GB, gradients 3.00 GB), 5.99 GB free',
  });
});

test("address space left is ulimit -v's less what is mapped", () => {
  const status = 'VmPeak:\t 900 kB\nVmSize:\t 700 kB\n';
  expect(parseAddressSpace('Max address space         1024000              2048000              bytes', status)).toBe(
    1024000 - 700 * 1024,
  );
  expect(parseAddressSpace('Max address space         unlimited            unlimited            bytes', status)).toBe(
    Number.POSITIVE_INFINITY,
  );
  expect(parseAddressSpace('', '')).toBe(Number.POSITIVE_INFINITY);
});

describe('control groups', () => {
  const write = async (path: string, files: Record<string, string>): Promise<void> => {
    await mkdir(join(folder, path), { recursive: true });
    for (const [name, text] of Object.entries(files)) await writeFile(join(folder, path, name), text);
  };

  test('version 2: every group up to the root, page cache given back', async () => {
    await write('v2/a/b', { 'memory.max': 'max\n', 'memory.current': '70\n' });
    await write('v2/a', {
      'memory.max': '100\n',
      'memory.current': '80\n',
      'memory.stat': 'anon 20\ninactive_anon 1\nactive_anon 19\ninactive_file 30\nactive_file 15\n',
    });
    expect(await groupMemory(join(folder, 'v2'), '0::/a/b\n')).toEqual([{ limit: 100, used: 35 }]);
  });

  test("version 1: the memory controller's", async () => {
    await write('v1/memory/a', { 'memory.limit_in_bytes': '64\n', 'memory.usage_in_bytes': '14\n' });
    const membership = '5:cpu:/x\n4:memory:/a\n0::/\n';
    expect(await groupMemory(join(folder, 'v1'), membership)).toEqual([{ limit: 64, used: 14 }]);
    const statistics = 'inactive_file 1\nactive_file 2\ntotal_inactive_file 3\ntotal_active_file 4\n';
    await write('v1/memory/a', { 'memory.stat': statistics });
    expect(await groupMemory(join(folder, 'v1'), membership)).toEqual([{ limit: 64, used: 7 }]);
  });

  test('none', async () => {
    expect(await groupMemory(join(folder, 'nowhere'), '')).toEqual([]);
    expect(await groupMemory(join(folder, 'nowhere'), '0::/a\n')).toEqual([]);
  });
});

describe('the parts of a model', () => {
  const PARTS = ['unet', 'vae', 'text'] as const;
  let engine: Engine;
  beforeAll(async () => {
    engine = await loadEngine({ threads: 2 });
    await writeTinyModel(engine, at('sd15'), 1);
    await writeTinySdxl(engine, at('sdxl'), 2);
  });

  /** The tiny models' own tokenizers, which no single file can hold. */
  const WITHOUT = { sd15: ['--allow', 'tokenizer'], sdxl: ['--allow', 'tokenizer', '--allow', 'tokenizer_2'] };

  test.each(['sd15', 'sdxl'] as const)('of a single file take what they take of its folder: %s', async (kind) => {
    const file = at(`${kind}.safetensors`);
    const { code, err } = await potstill('model', 'convert', at(kind), '--out', file, ...WITHOUT[kind]);
    expect(code, err).toBe(0);
    const [ofFile, ofFolder] = await Promise.all(
      [file, at(kind)].map((model) => Promise.all(PARTS.map((part) => weightBytes(model, part)))),
    );
    expect(ofFile).toEqual(ofFolder);
    // What one file holds altogether is in memory once. (Its f32 weights, and a header.)
    const all = (ofFile ?? []).reduce((a, b) => a + b, 0);
    expect(all).toBeLessThan((await stat(file)).size);
    expect(all).toBeGreaterThan((await stat(file)).size * 0.8);
  });

  test('in codes take what they take in their file', async () => {
    const whole = await weightBytes(at('sd15'), 'unet');
    for (const [format, name] of [
      ['nf4', 'nf4'],
      ['fp8', 'fp8.safetensors'],
    ] as const) {
      const words = ['model', 'quantize', at('sd15'), '--format', format, '--out', at(name), ...WITHOUT.sd15];
      const { code, out, err } = await potstill(...words, '--json');
      expect(code, err).toBe(0);
      const { quantized } = JSON.parse(out) as { quantized: readonly { parameters: number; bytes: number }[] };
      const { parameters = 0, bytes = 0 } = quantized[0] ?? {};
      const found = await weightBytes(at(name), 'unet');
      // nf4 has a table and a note beside each matrix.
      expect(found).toBeGreaterThanOrEqual(whole - 4 * parameters + bytes);
      expect(found).toBeLessThan(whole - 2 * parameters);
    }
  });

  test("of a UNet's or a VAE's own folder are that", async () => {
    for (const part of ['unet', 'vae'] as const) {
      expect(await weightBytes(join(at('sd15'), part), part)).toBe(await weightBytes(at('sd15'), part));
    }
    expect(2 * (await weightBytes(at('sd15'), 'unet', 'bf16'))).toBe(await weightBytes(at('sd15'), 'unet'));
    await expect(weightBytes(join(at('sd15'), 'vae'), 'unet')).rejects.toMatchObject({
      code: 'ERR_MODEL_FILE',
      what: expect.stringContaining('holds no unet'),
      remedy: expect.stringContaining('vae'),
    });
  });
});

describe('a model that does not fit', () => {
  /** Weights of the tensor that the model is given: 275 GB in f32, of which a sparse file stores nothing. */
  const HUGE = 2 ** 36;
  let project: TinyProject;
  let weights = 0;

  beforeAll(async () => {
    project = await makeTinyProject(await loadEngine({ threads: 2 }));
    weights = await weightBytes(join(project.folder, 'base'), 'unet');
    await addHugeTensor(join(project.folder, 'base', 'unet', 'diffusion_pytorch_model.safetensors'));
  });
  afterAll(() => project[Symbol.dispose]());

  async function addHugeTensor(file: string): Promise<void> {
    const whole = await readFile(file);
    const length = Number(whole.readBigUInt64LE());
    const header = JSON.parse(whole.subarray(8, 8 + length).toString('utf8')) as Record<string, object>;
    const stored = whole.length - 8 - length;
    header['huge'] = { dtype: 'F32', shape: [2 ** 18, HUGE / 2 ** 18], data_offsets: [stored, stored + 4 * HUGE] };
    const json = Buffer.from(JSON.stringify(header), 'utf8');
    const start = Buffer.alloc(8);
    start.writeBigUInt64LE(BigInt(json.length));
    await using handle = await open(file, 'w');
    await handle.writeFile(Buffer.concat([start, json, whole.subarray(8 + length)]));
    await handle.truncate(8 + json.length + stored + 4 * HUGE);
  }

  test('its bytes are counted from the headers alone', async () => {
    expect(weights).toBeGreaterThan(1e5);
    expect(await weightBytes(join(project.folder, 'base'), 'unet')).toBe(weights + 4 * HUGE);
  });

  test('sample exits with 3 and says what is needed', async () => {
    const out = join(project.folder, 'pictures-out');
    const words = ['--model', join(project.folder, 'base'), '--prompt', 'x', '--out', out];
    const { code, err } = await potstill('sample', ...words);
    expect(err).toMatch(/not enough memory: at least 275 GB needed \(unet 275 GB, text .*, vae .*\), [\d.]+ GB free/);
    expect(err).toMatch(/do: .*smaller model/);
    expect(code).toBe(3);
    expect(existsSync(out)).toBe(false);
  });

  test('sample counts the model of the first steps as well, and the VAE that is given', async () => {
    const words = ['--prompt', 'x', '--steps', '2', '--base-steps', '1', '--out', join(project.folder, 'pictures-out')];
    const model = ['--model', at('sd15.safetensors'), '--vae', at('sdxl.safetensors')];
    const { code, err } = await potstill('sample', ...model, '--base', join(project.folder, 'base'), ...words);
    expect(err).toMatch(/at least 275 GB needed \(unet 0\.\d+ GB, text 0\.\d+ GB, vae 0\.\d+ GB, base 275 GB\)/);
    expect(err).toContain(at('sdxl.safetensors'));
    expect(code).toBe(3);
  });

  test('train --validate counts the weights alone, before it builds anything', async () => {
    const set = ['--set', 'training.validation.every=1', '--validate'];
    const { code, err } = await potstill('train', project.recipeFile, ...set);
    expect(err).toMatch(/at least 275 GB needed, /);
    expect(code).toBe(3);
    expect(existsSync(join(project.folder, 'cache'))).toBe(false);
  });

  test('train exits with 3 before it builds or writes anything', async () => {
    const words = ['--set', 'training.ema.decay=0.99', '--set', `output=${join(project.folder, 'run')}`];
    const { code, err } = await potstill('train', project.recipeFile, ...words);
    expect(err).toMatch(/at least 1374 GB needed \(weights 275 GB, gradients 275 GB, optimizer 550 GB, moving average/);
    expect(err).toContain('leave out training.ema');
    expect(code).toBe(3);
    for (const made of ['run', 'cache']) expect(existsSync(join(project.folder, made)), made).toBe(false);
  });
});
