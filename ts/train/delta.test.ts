import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeEchoUnet } from '../../test/support/echo-unet.ts';
import { interruptAt } from '../../test/support/interrupt.ts';
import { writeTinyImages } from '../../test/support/tiny-data.ts';
import { writeTinyModel } from '../../test/support/tiny-model.ts';
import { resolveValue, trainQuietly } from '../../test/support/training.ts';
import { buildCache } from '../cache/index.ts';
import { loadEngine } from '../native/index.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { readMetrics, type StepMetrics } from './metrics.ts';

/** Trainings of models that take milliseconds, several of them one after another. */
const TIMEOUT_MS = 120_000;

const folder = mkdtempSync(join(tmpdir(), 'potstill-delta-'));
const at = (...names: string[]): string => join(folder, ...names);

/** Of `base`, trained on its pictures by ordinary training. */
const STYLE = at('style', 'student.safetensors');

beforeAll(async () => {
  const engine = await loadEngine();
  await writeTinyModel(engine, at('turbo'), 1);
  await writeTinyModel(engine, at('base'), 1);
  await writeEchoUnet(engine, at('base'), 2);
  await writeTinyModel(engine, at('other-vae'), 3);
  await writeTinyImages(engine, at('images'), 6);
  await writeTinyImages(engine, at('keep'), 3, 100);
  const lora = { lora: { rank: 2, targets: 'all' } };
  const training = { steps: 12, batch: 4, optimizer: { lr: 2e-2 }, save: { dtype: 'f32' } };
  await trainQuietly(recipe('style', { student: { model: 'base', train: lora }, training, method: { id: 'denoise' } }));
}, TIMEOUT_MS);

afterAll(() => rmSync(folder, { recursive: true }));

function recipe(output: string, changes: Record<string, unknown> = {}): ResolvedRecipe {
  const { training, cache, ...others } = changes;
  const value = {
    version: 1,
    name: output,
    output,
    seed: 3,
    student: { model: 'turbo', train: { lora: { rank: 4, targets: 'all' } } },
    teachers: [{ id: 'style', model: 'base', lora: [{ file: STYLE }] }],
    data: [{ images: 'images' }],
    method: { id: 'delta', guidance: 2 },
    ...others,
    cache: { dir: 'cache', draws: 4, dtype: 'f32', seed: 11, ...(cache ?? {}) },
    training: { steps: 40, batch: 4, optimizer: { lr: 1e-2 }, save: { dtype: 'f32' }, ...(training ?? {}) },
  };
  return resolveValue(at('recipe.json'), value);
}

const metricsOf = (output: string): Promise<StepMetrics[]> => readMetrics(at(output, 'metrics.jsonl'));
const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
const plan = (cache: string, id: string): Record<string, unknown> =>
  JSON.parse(readFileSync(at(cache, 'teachers', id, 'plan.json'), 'utf8')) as Record<string, unknown>;

describe('delta transfer', () => {
  it(
    'caches the adapter on its base and the base alone, then teaches the difference to another model',
    async () => {
      const { components } = await buildCache(recipe('first'));
      expect(components.map(({ name }) => name)).toEqual(['latents', 'text', 'teachers/style', 'teachers/style.base']);
      expect(plan('cache', 'style')).toMatchObject({
        adapters: [{ file: expect.stringMatching(/^[0-9a-f]{64}$/), scale: 1 }],
        fields: ['cond', 'uncond'],
      });
      expect(plan('cache', 'style.base')['adapters']).toEqual([]);

      const { figures } = await trainQuietly(recipe('first', { training: { steps: 100 } }));
      const metrics = await metricsOf('first');
      const [begin, end] = [metrics.slice(0, 5), metrics.slice(-5)].map((lines) => mean(lines.map(({ loss }) => loss)));
      expect(end).toBeLessThan(0.5 * (begin ?? 0));
      expect(Object.keys(metrics[0] ?? {})).toEqual(expect.arrayContaining(['loss/style', 'delta/uncondRatio']));
      expect(figures['delta/uncondRatio']).toBeGreaterThan(0);
      expect(figures['delta/uncondRatio']).toBeCloseTo(mean(metrics.map((line) => line['delta/uncondRatio'] ?? 0)), 10);
    },
    TIMEOUT_MS,
  );

  it(
    'may change batch size, order, learning rate and schedule between its steps, and nothing that fixes the deltas',
    async () => {
      const cached = (output: string, changes: Record<string, unknown> = {}): ResolvedRecipe =>
        recipe(output, { ...changes, cache: { dir: 'kept-deltas', ...(changes['cache'] ?? {}) } });
      await buildCache(cached('before'));
      const training = { steps: 2, batch: 3, accumulation: 2, optimizer: { lr: 1e-3 }, schedule: { id: 'cosine' } };
      const { components } = await buildCache(
        cached('second', { training, seed: 99, method: { id: 'delta', guidance: 5 } }),
      );
      expect(components.every(({ computed }) => computed === 0)).toBe(true);
      await trainQuietly(cached('second', { training, seed: 99 }));

      const third = (changes: Record<string, unknown>) => trainQuietly(cached('third', changes));
      const half = [{ id: 'style', model: 'base', lora: [{ file: STYLE, scale: 0.5 }] }];
      await expect(third({ teachers: half })).rejects.toThrow(/adapters of the teacher/);
      await expect(third({ cache: { timesteps: [0, 500] } })).rejects.toThrow(/range of timesteps/);
      await expect(third({ cache: { seed: 12 } })).rejects.toThrow(/base seed/);
      const ignored = { id: 'delta', guidance: 2, unconditional: 'ignored' };
      await expect(third({ method: ignored })).rejects.toThrow(/predictions that are kept/);
      expect(existsSync(at('third'))).toBe(false);
    },
    TIMEOUT_MS,
  );

  it(
    'transfers from LoRA to LoRA: a student that has the change already has nothing to learn',
    async () => {
      const student = { model: 'base', train: { lora: STYLE } };
      const training = { steps: 1, batch: 4 };
      await trainQuietly(
        recipe('same', { student, training, method: { id: 'delta', guidance: 1 }, cache: { dir: 'own' } }),
      );
      const fresh = { model: 'base', train: { lora: { rank: 2, targets: 'all' } } };
      await trainQuietly(
        recipe('anew', { student: fresh, training, method: { id: 'delta', guidance: 1 }, cache: { dir: 'own' } }),
      );
      const [same, anew] = [(await metricsOf('same'))[0]?.loss ?? 1, (await metricsOf('anew'))[0]?.loss ?? 0];
      expect(same).toBeLessThan(1e-9);
      expect(anew).toBeGreaterThan(1e-4);
    },
    TIMEOUT_MS,
  );

  it(
    'goes on to the bit after an interruption, also from the file of a LoRA and with all weights',
    async () => {
      for (const [name, train] of [
        ['file', { lora: STYLE }],
        ['whole', 'unet'],
      ] as const) {
        const given = (output: string): ResolvedRecipe =>
          recipe(output, {
            student: { model: name === 'file' ? 'base' : 'turbo', train },
            training: { steps: 4, batch: 2, optimizer: { lr: 1e-3 }, checkpoint: { every: 2 } },
          });
        await trainQuietly(given(`${name}-through`));
        await expect(trainQuietly(given(`${name}-stopped`), interruptAt(2))).rejects.toThrow();
        await trainQuietly(given(`${name}-stopped`), { resume: true });
        const weights = (output: string): Buffer =>
          readFileSync(at(output, 'checkpoints', 'step-000004', 'student.safetensors'));
        expect(weights(`${name}-stopped`).equals(weights(`${name}-through`))).toBe(true);
      }
    },
    TIMEOUT_MS,
  );

  it(
    'refuses another VAE, teachers without adapters, and a validation that would mean nothing',
    async () => {
      cpSync(at('base'), at('foreign'), { recursive: true });
      cpSync(at('other-vae', 'vae'), at('foreign', 'vae'), { recursive: true });
      const foreign = [{ id: 'style', model: 'foreign', lora: [{ file: STYLE }] }];
      await expect(trainQuietly(recipe('none', { teachers: foreign, cache: { dir: 'vae' } }))).rejects.toThrow(
        /another VAE/,
      );
      const plain = [{ id: 'style', model: 'base' }];
      expect(() => recipe('none', { teachers: plain })).toThrow(/adapters change/);
      expect(() => recipe('none', { training: { validation: {} } })).toThrow(/means nothing/);
    },
    TIMEOUT_MS,
  );
});

describe('prior prediction', () => {
  it(
    'keeps chosen pictures as the student saw them, beside another method, without predictions of teachers',
    async () => {
      const data = [{ images: 'images' }, { images: 'keep', method: { id: 'prior' }, lossWeight: 2, repeats: 2 }];
      const given = recipe('kept', { data, cache: { dir: 'kept-cache' }, training: { steps: 20, batch: 2 } });
      const { plans } = await buildCache(given);
      const all = plans.scan.samples.length;
      expect((plan('kept-cache', 'style')['samples'] as unknown[]).length).toBe(plans.predicted.length);
      expect(plans.predicted.length).toBeLessThan(all);
      await trainQuietly(given);
      const metrics = await metricsOf('kept');
      const [own, prior] = [true, false].map((is) => metrics.filter((line) => 'loss/style' in line === is));
      expect(own?.length).toBeGreaterThan(0);
      // As many steps of either kind as there are pictures: 6 at 4 draws, and twice 3 at as many.
      expect(prior?.length).toBeGreaterThan(0);
      expect(prior?.every(({ loss }) => Number.isFinite(loss))).toBe(true);
    },
    TIMEOUT_MS,
  );

  it(
    'is a regulariser of any method: the student drifts less from what it was, and the loss on the data more',
    async () => {
      const drift = async (prior: number): Promise<number> => {
        const name = `drift-${prior}`;
        const training = { steps: 30, batch: 4, regularise: { prior, data: 0 } };
        await trainQuietly(recipe(name, { method: { id: 'denoise' }, teachers: [], training }));
        return mean((await metricsOf(name)).slice(-10).map((line) => line['loss/regularise.prior'] ?? Number.NaN));
      };
      const [little, much] = [await drift(0.01), await drift(10)];
      expect(much).toBeLessThan(0.5 * little);
    },
    TIMEOUT_MS,
  );
});
