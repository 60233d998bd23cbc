import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writeTinyModel } from '../../test/support/tiny-model.ts';
import { componentFolder, loadEngine, scope, type Tensor, Unet } from '../native/index.ts';
import { packageVersion } from '../version.ts';
import {
  averaged,
  describe,
  grid,
  guided,
  Painter,
  type PictureSettings,
  pictureRecipe,
  sampleLatents,
  sizeIds,
  withoutText,
  withText,
} from './index.ts';

const engine = await loadEngine({ threads: 2 });
let folder = '';
let painter: Painter;
let unets: readonly [Unet, Unet];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'potstill-sampling-'));
  const load = async (name: string, seed: number): Promise<Unet> => {
    await writeTinyModel(engine, join(folder, name), seed);
    return Unet.open(engine, componentFolder({ folder: join(folder, name) }, 'unet'));
  };
  unets = [await load('a', 1), await load('b', 2)];
  painter = await Painter.open(engine, join(folder, 'a'));
});
afterAll(() => rm(folder, { recursive: true }));

const settings: PictureSettings = {
  ...{ prompt: 'a red apple', negative: 'a dog', sampler: 'ddim', steps: 3, guidance: 4 },
  ...{ seed: 7n, width: 64, height: 32 },
};
const network = (unet: Unet, weight = 1) => ({ unet, weight, prediction: 'epsilon' as const });
const values = (networks: Parameters<Painter['latents']>[0], changed = {}): Promise<Float32Array> =>
  scope(async () => (await painter.latents(networks, { ...settings, ...changed })).toArray());
const spread = (a: Float32Array, b: Float32Array): number =>
  a.reduce((max, value, i) => Math.max(max, Math.abs(value - (b[i] ?? 0))), 0);

test('latents are a function of the settings; every one of them counts', async () => {
  const first = await values([network(unets[0])]);
  expect(first).toHaveLength(4 * 4 * 8);
  expect(await values([network(unets[0])])).toEqual(first);
  for (const change of [{ seed: 8n }, { prompt: 'a dog' }, { negative: '' }, { guidance: 1 }, { sampler: 'euler' }]) {
    expect(await values([network(unets[0])], change), Object.keys(change)[0]).not.toEqual(first);
  }
});

test('several networks are averaged by weight at every step', async () => {
  const [a, b] = unets;
  const alone = await values([network(a)]);
  expect(spread(await values([network(a, 2), network(a, 6)]), alone)).toBeLessThan(1e-4);
  expect(await values([network(a, 1), network(b, 1)])).toEqual(await values([network(a, 5), network(b, 5)]));
  expect(spread(await values([network(a), network(b)]), alone)).toBeGreaterThan(1e-3);
});

test('guidance of 1 is the conditional prediction, and in between it is linear', async () => {
  await scope(async () => {
    const [cond, away] = [await painter.condition('a red apple', settings), await painter.condition('', settings)];
    const sample = painter.noise(3n, settings);
    const point = { step: 0, level: { signal: 0.5, noise: 0.75 ** 0.5 } };
    const at = async (g: number, uncond = true): Promise<Float32Array> =>
      guided(unets[0], cond, uncond ? away : undefined, g)(sample, Float64Array.of(500), point).toArray();
    const [none, half, zero] = [await at(1), await at(0.5), await at(0)];
    expect(await at(1, false)).toEqual(none);
    expect(
      spread(
        half,
        none.map((value, i) => (value + (zero[i] ?? 0)) / 2),
      ),
    ).toBeLessThan(1e-4);
  });
});

test('reports every step, frees what it made, and stops when told to', async () => {
  const before = engine.liveHandles;
  const steps: number[] = [];
  const made = await painter.latents([network(unets[0])], settings, { onStep: (done) => steps.push(done) });
  expect(steps).toEqual([1, 2, 3]);
  made.dispose();
  expect(engine.liveHandles).toBe(before);

  const controller = new AbortController();
  const stopped = painter.latents([network(unets[0])], settings, {
    signal: controller.signal,
    onStep: () => controller.abort(new Error('enough')),
  });
  await expect(stopped).rejects.toThrow('enough');
  expect(await engine.filledHandles()).toBe(before);
});

test('an error in a step surfaces', async () => {
  const { schedule } = painter.model;
  const noise = painter.noise(1n, settings);
  const predict = (sample: Tensor): Tensor => sample.slice(1, 0, 3);
  const latents = await sampleLatents({ schedule, sampler: 'ddim', steps: 2, noise, predict });
  await expect(latents.toArray()).rejects.toMatchObject({ kind: 'input' });
  expect(() => averaged([])).toThrow(RangeError);
});

test('a grid lays pictures out in rows and leaves missing ones white', async () => {
  await scope(async () => {
    const picture = painter.noise(1n, { width: 16, height: 16 }).slice(1, 0, 3);
    const laid = grid([picture, picture, picture], 2);
    expect(laid.shape).toEqual([1, 3, 4, 4]);
    const found = await laid.toArray();
    expect([...found.slice(10, 12), ...found.slice(14, 16)]).toEqual([1, 1, 1, 1]);
  });
});

test('a picture carries its settings', async () => {
  const png = Buffer.from(await painter.paint([network(unets[0])], settings));
  expect(png.includes(`parameters\0${describe(settings)}`, 0, 'latin1')).toBe(true);
  expect(png.includes(`potstill\0${JSON.stringify(pictureRecipe(settings))}`, 0, 'latin1')).toBe(true);
  const version = packageVersion();
  expect(describe(settings)).toBe(
    `a red apple\nNegative prompt: a dog\nSteps: 3, Sampler: DDIM, CFG scale: 4, Seed: 7, Size: 64x32, RNG: philox, Version: potstill ${version}`,
  );
  expect(Buffer.from(withText(png, 'comment', '犬')).includes('iTXtcomment\0\0\0\0\0犬')).toBe(true);
});

test('what a picture was made with is told to other programs and, whole, to potstill', () => {
  const all: PictureSettings = {
    ...{ ...settings, sampler: 'dpmpp-2m', karras: true, spacing: 'linspace', guidanceRescale: 0.7, clipSkip: 1 },
    ...{ base: { steps: 1, guidance: 6 }, unconditional: 'encode', seed: 2n ** 64n - 1n },
  };
  const models = { model: { name: 'mine, v2', sha256: 'ab'.repeat(32) }, base: { name: 'sdxl' } };
  const numbers = describe(all, models).split('\n').at(-1);
  expect(numbers).toContain(
    'Steps: 3, Sampler: DPM++ 2M, Schedule type: Karras, Spacing: linspace, CFG scale: 4, CFG rescale: 0.7, ' +
      'Seed: 18446744073709551615, Size: 64x32, Model hash: ababababab, Model: "mine, v2", Clip skip: 2, ' +
      'Base: sdxl, Base steps: 1, Base CFG scale: 6, RNG: philox',
  );
  expect(describe(all, { ...models, kind: 'sdxl' })).toContain(', Clip skip: 3, ');
  expect(describe({ ...all, clipSkip: 0 }, { ...models, kind: 'sdxl' })).not.toContain('Clip skip');
  expect(pictureRecipe(all, models)).toMatchObject({
    ...{ version: 1, prompt: 'a red apple', sampler: 'dpmpp-2m', seed: '18446744073709551615', model: models.model },
    base: { steps: 1, guidance: 6, model: { name: 'sdxl' } },
  });
});

test.each(['ddpm', 'euler-a', 'lcm', 'tcd'] as const)('%s draws fresh noise from the seed alone', async (sampler) => {
  const first = await values([network(unets[0])], { sampler });
  expect(await values([network(unets[0])], { sampler })).toEqual(first);
  expect(first.every(Number.isFinite)).toBe(true);
  expect(await values([network(unets[0])], { sampler, seed: 8n })).not.toEqual(first);
  const { schedule } = painter.model;
  const predict = (sample: Tensor): Tensor => sample;
  const noise = painter.noise(1n, settings);
  await expect(sampleLatents({ schedule, sampler, steps: 2, noise, predict })).rejects.toThrow('fresh noise');
});

test('dpmpp-2m and choices of a sampler count; choices that it does not have are refused', async () => {
  const first = await values([network(unets[0])], { sampler: 'dpmpp-2m' });
  for (const change of [{ karras: true }, { spacing: 'trailing' }]) {
    expect(await values([network(unets[0])], { sampler: 'dpmpp-2m', ...change })).not.toEqual(first);
  }
  for (const change of [{ sampler: 'lcm', spacing: 'leading' }, { karras: true }, { sampler: 'flow-euler' }]) {
    await expect(values([network(unets[0])], change)).rejects.toMatchObject({ kind: 'input' });
  }
});

test('sizes come in the order that SDXL was trained with; no text is zeros', async () => {
  await scope(async () => {
    const told = {
      original: { width: 1, height: 2 },
      crop: { left: 3, top: 4 },
      target: { width: 5, height: 6 },
    };
    const size = { width: 7, height: 8 };
    expect([...(await sizeIds(engine, size, told).toArray())]).toEqual([2, 1, 4, 3, 6, 5]);
    expect([...(await sizeIds(engine, size).toArray())]).toEqual([8, 7, 0, 0, 8, 7]);
    expect([...(await sizeIds(engine, size, { crop: told.crop }).toArray())]).toEqual([8, 7, 4, 3, 8, 7]);
    const [text, timeIds] = [painter.noise(1n, settings), sizeIds(engine, size)];
    const empty = withoutText({ encoderHiddenStates: text, textEmbeds: text, timeIds });
    expect(empty.timeIds).toBe(timeIds);
    for (const zeros of [empty.encoderHiddenStates, empty.textEmbeds]) {
      expect(zeros?.shape).toEqual(text.shape);
      expect((await zeros?.toArray())?.every((value) => value === 0)).toBe(true);
    }
  });
});

test('several seeds at once are the pictures of each', async () => {
  const seeds = [7n, 8n, 9n];
  for (const sampler of ['ddim', 'euler-a'] as const) {
    const changed = { ...settings, sampler };
    const batch = await scope(async () => (await painter.latents([network(unets[0])], changed, { seeds })).toArray());
    for (const [row, seed] of seeds.entries()) {
      const alone = await values([network(unets[0])], { sampler, seed });
      // To the bit: what a picture is does not depend on those beside it.
      expect(batch.slice(row * alone.length, (row + 1) * alone.length)).toEqual(alone);
    }
  }
});

test('hybrid: the first steps are the base', async () => {
  const [student, base] = unets;
  const [alone, byBase] = [await values([network(student)]), await values([network(base)])];
  const mixed = async (steps: number): Promise<Float32Array> =>
    scope(async () => {
      const changed = { ...settings, base: { steps, guidance: settings.guidance } };
      return (await painter.latents([network(student)], changed, { base: [network(base)] })).toArray();
    });
  expect(await mixed(3)).toEqual(byBase);
  const one = await mixed(1);
  expect(one).not.toEqual(alone);
  expect(one).not.toEqual(byBase);
});

test('guidance rescale keeps the deviation of the conditional prediction', async () => {
  await scope(async () => {
    const [cond, away] = [await painter.condition('a red apple', settings), await painter.condition('', settings)];
    const sample = painter.noise(3n, settings);
    const point = { step: 0, level: { signal: 0.5, noise: 0.75 ** 0.5 } };
    const at = async (guidance: number, rescale: number): Promise<number> => {
      const made = guided(unets[0], cond, away, { guidance, rescale })(sample, Float64Array.of(500), point);
      const found = await made.toArray();
      const mean = found.reduce((sum, value) => sum + value, 0) / found.length;
      return Math.sqrt(found.reduce((sum, value) => sum + (value - mean) ** 2, 0) / found.length);
    };
    const [plain, full, half, free] = [await at(1, 0), await at(9, 1), await at(9, 0.5), await at(9, 0)];
    expect(full).toBeCloseTo(plain, 4);
    expect(half).toBeCloseTo((plain + free) / 2, 4);
  });
});

test('weighted prompts: long ones go on, weights count, and texts of other lengths guide each other', async () => {
  await scope(async () => {
    const options = { syntax: 'weighted' as const };
    const shape = async (prompt: string): Promise<readonly number[]> =>
      (await painter.condition(prompt, settings, options)).encoderHiddenStates.shape;
    expect(await shape('a red apple')).toEqual([1, 77, 32]);
    expect(await shape('a red apple '.repeat(60))).toEqual([1, 77 * 3, 32]);
    const states = async (prompt: string): Promise<Float32Array> =>
      (await painter.condition(prompt, settings, options)).encoderHiddenStates.toArray();
    const plain = await (await painter.condition('a red apple', settings)).encoderHiddenStates.toArray();
    expect(await states('a red apple')).toEqual(plain);
    expect(spread(await states('a (red:1.0) apple'), plain)).toBeLessThan(1e-5);
    expect(spread(await states('a (red:1.5) apple'), plain)).toBeGreaterThan(1e-3);
  });
  const long = await values([network(unets[0])], { prompt: 'a red apple '.repeat(60) });
  expect(long.every(Number.isFinite)).toBe(true);
  await expect(values([network(unets[0])], { prompt: 'embedding:x' })).rejects.toThrow('no folder of embeddings');
});

test('large pictures are decoded by tiles', async () => {
  await scope(async () => {
    const latents = painter.noise(5n, { width: 640, height: 64 });
    const tiled = painter.decode(latents, 'on');
    expect(tiled.shape).toEqual([1, 3, 64, 640]);
    const whole = await painter.decode(latents, 'off').toArray();
    expect(await painter.decode(latents).toArray()).toEqual(whole);
    const found = await tiled.toArray();
    expect(found.every(Number.isFinite)).toBe(true);
    expect(found).not.toEqual(whole);
  });
});
