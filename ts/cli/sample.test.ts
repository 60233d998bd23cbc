import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { potstill } from '../../test/support/command-line.ts';
import { pngTexts } from '../../test/support/png-texts.ts';
import { encodeSafetensors } from '../../test/support/safetensors.ts';
import { writeTinyModel } from '../../test/support/tiny-model.ts';
import { writeTinySdxl } from '../../test/support/tiny-sdxl.ts';
import { loadEngine, readPicture } from '../native/index.ts';

const engine = await loadEngine({ threads: 2 });
let folder = '';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'potstill-sample-'));
  await writeTinyModel(engine, join(folder, 'model'), 1);
});
afterAll(() => rm(folder, { recursive: true }));

const sample = (...words: string[]): ReturnType<typeof potstill> =>
  potstill('sample', '--model', join(folder, 'model'), '--steps', '2', ...words);

test('writes a picture per prompt and seed, with its settings, and a grid', async () => {
  const out = join(folder, 'pictures');
  const words = ['--prompt', 'a red apple', '--prompt', 'Äpfel 犬', '--seed', '1,2', '--size', '96x64', '--grid'];
  const { code, out: text } = await sample(...words, '--guidance', '3', '--out', out, '--json');
  expect(code).toBe(0);
  const { images, grid } = JSON.parse(text) as { images: { file: string; seed: string }[]; grid: string };
  expect(images.map(({ file }) => file)).toEqual(
    ['00-a-red-apple-1.png', '00-a-red-apple-2.png', '01-apfel-1.png', '01-apfel-2.png'].map((name) => join(out, name)),
  );
  expect((await readPicture(engine, grid)).shape).toEqual([1, 3, 128, 192]);
  const first = await readFile(images[0]?.file ?? '');
  expect(first.toString('latin1')).toContain(
    'tEXtparameters\0a red apple\nSteps: 2, Sampler: DDIM, CFG scale: 3, Seed: 1, Size: 96x64, Model hash: ',
  );
  const third = await readFile(images[2]?.file ?? '');
  expect(third.toString('utf8')).toContain('Äpfel 犬');
  expect((await readPicture(engine, images[2]?.file ?? '')).shape).toEqual([1, 3, 64, 96]);
  expect(first.equals(await readFile(images[1]?.file ?? ''))).toBe(false);
});

test('the size is that of the model unless given, and the same seed gives the same picture', async () => {
  const words = ['--prompt', 'a dog', '--guidance', '1', '--sampler', 'euler'];
  await sample(...words, '--out', join(folder, 'a'));
  const { out } = await sample(...words, '--out', join(folder, 'b'));
  expect(out).toContain('00-a-dog-0.png');
  const [a, b] = await Promise.all(['a', 'b'].map((name) => readFile(join(folder, name, '00-a-dog-0.png'))));
  expect(a?.equals(b ?? Buffer.alloc(0))).toBe(true);
  expect((await readPicture(engine, join(folder, 'a', '00-a-dog-0.png'))).shape).toEqual([1, 3, 64, 64]);
});

test('in bf16 a picture is nearly the same, and says what it was multiplied in', async () => {
  const words = ['--prompt', 'a dog', '--guidance', '3', '--size', '64x64'];
  const pictures = await Promise.all(
    ['f32', 'bf16'].map(async (dtype) => {
      const out = join(folder, dtype);
      expect(await sample(...words, '--dtype', dtype, '--out', out)).toMatchObject({ code: 0 });
      return join(out, '00-a-dog-0.png');
    }),
  );
  const [exact, rounded] = await Promise.all(pictures.map(async (file) => (await readPicture(engine, file)).toArray()));
  const differences = exact?.map((value, at) => Math.abs(value - (rounded?.[at] ?? 0))) ?? new Float32Array();
  const mean = differences.reduce((sum, value) => sum + value, 0) / differences.length;
  expect(mean).toBeGreaterThan(0);
  expect(mean).toBeLessThan(0.02); // of a range of 2
  const texts = await Promise.all(pictures.map(async (file) => pngTexts(await readFile(file))));
  expect(texts.map((text) => /Precision: \w+/.exec(text.get('parameters') ?? '')?.[0])).toEqual([
    undefined,
    'Precision: bf16',
  ]);
  expect(texts.map((text) => JSON.parse(text.get('potstill') ?? '{}').dtype)).toEqual([undefined, 'bf16']);
});

test('hybrid, batched and stochastic pictures carry the recipe that made them', async () => {
  const out = join(folder, 'hybrid');
  await writeTinyModel(engine, join(folder, 'base'), 2);
  const words = ['--prompt', 'a (red:1.3) apple', '--seed', '1,2,3', '--batch', '2', '--sampler', 'euler-a'];
  const base = ['--base', join(folder, 'base'), '--base-steps', '1', '--base-guidance', '5', '--guidance', '1'];
  expect(await sample(...words, ...base, '--vae-tiling', 'on', '--out', out)).toMatchObject({ code: 0 });
  const texts = pngTexts(await readFile(join(out, '00-a-red-1-3-apple-3.png')));
  expect(texts.get('parameters')).toContain('Sampler: Euler a');
  const recipe = JSON.parse(texts.get('potstill') ?? '') as object;
  expect(recipe).toMatchObject({
    ...{ sampler: 'euler-a', steps: 2, seed: '3', guidance: 1, prompt: 'a (red:1.3) apple', syntax: 'weighted' },
    ...{ model: { name: 'model' }, base: { steps: 1, guidance: 5, model: { name: 'base' } } },
  });
});

test('SDXL is told sizes, and zeros may stand for the empty prompt', async () => {
  const model = join(folder, 'sdxl');
  await writeTinySdxl(engine, model, 3);
  const draw = async (...words: string[]) => {
    const out = join(folder, words.join('') || 'plain');
    const drawn = ['sample', '--model', model, '--prompt', 'a dog', '--steps', '2', '--size', '64x32', '--out', out];
    expect(await potstill(...drawn, ...words)).toMatchObject({ code: 0 });
    const file = join(out, '00-a-dog-0.png');
    const recipe = JSON.parse(pngTexts(await readFile(file)).get('potstill') ?? '') as object;
    return { recipe, pixels: [...(await (await readPicture(engine, file)).toArray())].join() };
  };
  const plain = await draw();
  // What it is told unless told otherwise: the picture's own size, taken whole.
  const same = await draw('--original-size', '64x32', '--crop', '0,0', '--target-size', '64x32', '--uncond', 'encode');
  expect(same.pixels).toBe(plain.pixels);
  const others = [
    await draw('--original-size', '32x64'),
    await draw('--crop', '500,0'),
    await draw('--crop', '0,500'),
    await draw('--target-size', '32x64'),
    await draw('--uncond', 'zeros'),
  ];
  expect(new Set([plain, ...others].map(({ pixels }) => pixels)).size).toBe(6);
  expect(others.map(({ recipe }) => recipe)).toMatchObject([
    { sizes: { original: { width: 32, height: 64 } } },
    { sizes: { crop: { left: 500, top: 0 } } },
    { sizes: { crop: { left: 0, top: 500 } } },
    { sizes: { target: { width: 32, height: 64 } } },
    { unconditional: 'zeros' },
  ]);
});

test('embeddings of a prompt are read from their folder', async () => {
  const embeddings = join(folder, 'embeddings');
  const values = Float32Array.from({ length: 64 }, (_, at) => Math.sin(at) / 8);
  await mkdir(embeddings);
  const file = encodeSafetensors(new Map([['emb_params', { shape: [2, 32], values }]]));
  await writeFile(join(embeddings, 'ink.safetensors'), file);
  const draw = async (name: string, prompt: string): Promise<string> => {
    const out = join(folder, name);
    expect(await sample('--prompt', prompt, '--embeddings', embeddings, '--out', out)).toMatchObject({ code: 0 });
    const [picture = ''] = await readdir(out);
    return [...(await (await readPicture(engine, join(out, picture))).toArray())].join();
  };
  const [named, weighted, without] = [
    await draw('named', 'a dog, embedding:ink'),
    await draw('weighted', 'a dog, (embedding:ink:1.4)'),
    await draw('without', 'a dog,'),
  ];
  expect(new Set([named, weighted, without]).size).toBe(3);
});

test('refuses a base with another noise schedule', async () => {
  const [base, out] = [join(folder, 'rescaled'), join(folder, 'none')];
  await writeTinyModel(engine, base, 2);
  const file = join(base, 'scheduler', 'scheduler_config.json');
  const config = JSON.parse(await readFile(file, 'utf8')) as object;
  const words = ['--prompt', 'x', '--base', base, '--base-steps', '1', '--out', out];
  for (const change of [{ rescale_betas_zero_snr: true }, { beta_end: 0.0121 }]) {
    await writeFile(file, JSON.stringify({ ...config, ...change }));
    expect(await sample(...words)).toMatchObject({ code: 2, err: expect.stringContaining('noise schedule') });
    expect(existsSync(out)).toBe(false);
  }
  // Another prediction kind is converted.
  await writeFile(file, JSON.stringify({ ...config, prediction_type: 'v_prediction' }));
  expect(await sample(...words.with(-1, join(folder, 'velocity')))).toMatchObject({ code: 0 });
});

test.each([
  [['--prompt', 'x', '--size', '60x64'], 'Both sides must be multiples of 8'],
  [['--prompt', 'x', '--size', 'big'], 'WIDTHxHEIGHT'],
  [[], '--prompt'],
  [['--prompt', 'x', '--lora', '/nowhere/a.safetensors:0.5'], 'where: /nowhere/a.safetensors'],
  [['--prompt', 'x', '--base-steps', '1'], 'both --base and --base-steps'],
  [['--prompt', 'x', '--base', '.', '--base-steps', '2'], 'leaves none of 2 steps'],
  [['--prompt', 'x', '--base', '/nowhere', '--base-steps', '1'], '/nowhere'],
  [['--prompt', 'x', '--sampler', 'lcm', '--spacing', 'leading'], 'is not a choice of lcm'],
  [['--prompt', 'x', '--sampler', 'flow-euler'], 'predicts epsilon'],
  [['--prompt', 'x', '--eta', '2'], 'from 0 to 1'],
  [['--prompt', 'x', '--crop', '3'], 'LEFT,TOP'],
  [['--prompt', 'x', '--crop', '3,4'], 'SDXL models alone are told sizes'],
  [['--prompt', 'embedding:none', '--embeddings', '/nowhere'], 'none.safetensors'],
  [['--prompt', 'x', '--uncond', 'zeros', '--negative', 'y'], 'negative'],
  [['--prompt', 'x', '--seed', '1,-2'], 'Seeds are whole numbers'],
  [['--prompt', 'x', '--vae', '/nowhere'], '/nowhere'],
])('refuses %s with exit code 2 and no picture', async (words, message) => {
  const out = join(folder, 'none');
  const result = await sample(...words, '--out', out);
  expect(result).toMatchObject({ code: 2, err: expect.stringContaining(message) });
  expect(existsSync(out)).toBe(false);
});
