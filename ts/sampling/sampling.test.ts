import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writeTinyModel } from '../../test/support/tiny-model.ts';
import { componentFolder, loadEngine, scope, type Tensor, Unet } from '../native/index.ts';
import { averaged, describe, grid, guided, Painter, type PictureSettings, sampleLatents, withText } from './index.ts';

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
    const at = async (g: number, uncond = true): Promise<Float32Array> =>
      guided(unets[0], cond, uncond ? away : undefined, g)(sample, Float64Array.of(500)).toArray();
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
  expect(describe(settings)).toBe(
    'a red apple\nNegative prompt: a dog\nSteps: 3, Sampler: ddim, Spacing: leading, CFG scale: 4, Seed: 7, Size: 64x32',
  );
  expect(Buffer.from(withText(png, 'comment', '犬')).includes('iTXtcomment\0\0\0\0\0犬')).toBe(true);
});
