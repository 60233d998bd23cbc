import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { interruptAt } from '../../test/support/interrupt.ts';
import { writeTinyImages } from '../../test/support/tiny-data.ts';
import { writeTinyModel } from '../../test/support/tiny-model.ts';
import { resolveValue, trainQuietly } from '../../test/support/training.ts';
import { inspectAdapter } from '../adapter/index.ts';
import { type Engine, encodePng, loadEngine, noise, scope, Tensor } from '../native/index.ts';
import { type Progress, silentProgress } from '../progress.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { readMetrics, type StepMetrics } from './metrics.ts';
import { validate } from './validate.ts';

/** Trainings of models that take milliseconds, several of them one after another. */
const TIMEOUT_MS = 120_000;
const SIDE = 64;

const folder = mkdtempSync(join(tmpdir(), 'potstill-settings-'));
const at = (...names: string[]): string => join(folder, ...names);

beforeAll(async () => {
  const engine = await loadEngine();
  await writeTinyModel(engine, at('student'), 1);
  await writeTinyImages(engine, at('images'), 8);
  mkdirSync(at('masks'));
  for (let index = 0; index < 8; index += 1) await writeMask(engine, at('masks', `${index}.png`));
}, TIMEOUT_MS);

afterAll(() => rmSync(folder, { recursive: true }));

/** White on the left half. */
async function writeMask(engine: Engine, file: string): Promise<void> {
  const row = Array.from({ length: SIDE }, (_, x) => (x < SIDE / 2 ? 1 : -1));
  const values = Array.from({ length: 3 * SIDE }, () => row).flat();
  const png = await scope(() => encodePng(Tensor.fromArray(engine, values, [1, 3, SIDE, SIDE])));
  writeFileSync(file, png);
}

function recipe(output: string, changes: Record<string, unknown> = {}): ResolvedRecipe {
  const { training, ...others } = changes;
  const value = {
    version: 1,
    name: output,
    output,
    seed: 3,
    student: { model: 'student', train: { lora: { rank: 4 } } },
    data: [{ images: 'images' }],
    cache: { dir: 'cache' },
    method: { id: 'denoise' },
    ...others,
    training: { steps: 6, batch: 2, save: { dtype: 'f32' }, ...(training ?? {}) },
  };
  return resolveValue(at('recipe.json'), value);
}

const metricsOf = (output: string): Promise<StepMetrics[]> => readMetrics(at(output, 'metrics.jsonl'));
const mean = (lines: readonly StepMetrics[]): number => lines.reduce((sum, { loss }) => sum + loss, 0) / lines.length;
const student = (output: string): Buffer => readFileSync(at(output, 'student.safetensors'));

describe('optimizers', () => {
  it.each([
    ['lion', { id: 'lion', lr: 3e-3 }],
    ['prodigy', { id: 'prodigy', d0: 1e-3 }],
    ['adafactor', { id: 'adafactor', lr: 1e-2 }],
  ])(
    '%s lowers the loss, and goes on to the bit after an interruption',
    async (name, optimizer) => {
      const long = { steps: 60, batch: 4, optimizer };
      await trainQuietly(recipe(`${name}-long`, { student: { model: 'student', train: 'unet' }, training: long }));
      const lines = await metricsOf(`${name}-long`);
      expect(mean(lines.slice(-10))).toBeLessThan(0.95 * mean(lines.slice(0, 10)));

      const training = { optimizer, checkpoint: { every: 3 } };
      const layers = { lora: { rank: 2, targets: 'all' } };
      const given = (output: string): ResolvedRecipe =>
        recipe(output, { student: { model: 'student', train: layers }, training });
      await trainQuietly(given(`${name}-through`));
      await expect(trainQuietly(given(`${name}-stopped`), interruptAt(3))).rejects.toThrow();
      await trainQuietly(given(`${name}-stopped`), { resume: true });
      const losses = async (output: string): Promise<number[]> => (await metricsOf(output)).map(({ loss }) => loss);
      expect(await losses(`${name}-stopped`)).toEqual(await losses(`${name}-through`));
    },
    TIMEOUT_MS,
  );

  it(
    'have learning rates by layers: those of factor 0 stay as they were',
    async () => {
      const rates = [
        { layers: 'attention', factor: 0 },
        { layers: '*.attn2.*', factor: 2 },
      ];
      await trainQuietly(recipe('rates', { training: { optimizer: { lr: 1e-2, rates } } }));
      const { modules } = await inspectAdapter(at('rates', 'student.safetensors'), at('student'));
      expect(modules.length).toBeGreaterThan(0);
      for (const { name, norm } of modules) expect(norm > 0, name).toBe(name.includes('.attn2.'));
      const none = { training: { optimizer: { rates: [{ layers: 'attn9', factor: 0 }] } } };
      await expect(trainQuietly(recipe('no-rates', none))).rejects.toThrow(/attn9/);
      const prodigy = { training: { optimizer: { id: 'prodigy', rates: [{ layers: 'all', factor: 0.5 }] } } };
      expect(() => recipe('no-rates', prodigy)).toThrow(/0 or 1/);
    },
    TIMEOUT_MS,
  );
});

describe('kinds of LoRA', () => {
  it(
    'have ranks and alphas by block, rsLoRA among them, in the file that is written',
    async () => {
      const lora = {
        ...{ rank: 4, alpha: 2, rslora: true },
        blocks: [
          { layers: 'mid_block.*', rank: 16 },
          { layers: '*.attn2.*', rank: 9, alpha: 3 },
        ],
      };
      const student = { model: 'student', train: { lora } };
      await trainQuietly(recipe('blocks', { student, training: { optimizer: { lr: 1e-2 } } }));
      const { modules } = await inspectAdapter(at('blocks', 'student.safetensors'), at('student'));
      for (const { name, rank, scale } of modules) {
        const [wanted, alpha] = name.includes('.attn2.') ? [9, 3] : name.includes('mid_block') ? [16, 8] : [4, 2];
        expect(rank, name).toBe(wanted);
        expect(scale, name).toBeCloseTo(alpha / Math.sqrt(wanted), 6);
      }
    },
    TIMEOUT_MS,
  );

  it(
    'may be DoRAs, which learn, go on to the bit and are written with their magnitudes',
    async () => {
      const given = (output: string): ResolvedRecipe =>
        recipe(output, {
          student: { model: 'student', train: { lora: { rank: 2, targets: 'all', dora: true } } },
          training: { optimizer: { lr: 1e-2 }, checkpoint: { every: 3 }, ema: { decay: 0.9 } },
        });
      await trainQuietly(given('dora'));
      await expect(trainQuietly(given('dora-stopped'), interruptAt(3))).rejects.toThrow();
      await trainQuietly(given('dora-stopped'), { resume: true });
      const losses = async (output: string): Promise<number[]> => (await metricsOf(output)).map(({ loss }) => loss);
      expect(await losses('dora-stopped')).toEqual(await losses('dora'));
      const { kinds } = await inspectAdapter(at('dora', 'student.safetensors'), at('student'));
      expect(Object.keys(kinds)).toEqual(['dora']);
      // Its own file is what a further training begins with.
      const more = { model: 'student', train: { lora: at('dora', 'student.safetensors') } };
      await trainQuietly(recipe('dora-more', { student: more, training: { steps: 1 } }));
    },
    TIMEOUT_MS,
  );
});

describe('several LoRAs at once', () => {
  it(
    'are trained on layers of their own, go on to the bit and are files of their own',
    async () => {
      const loras = { content: { rank: 2, targets: 'down_blocks.*' }, style: { rank: 4, targets: 'up_blocks.*' } };
      const given = (output: string, changed: object = loras): ResolvedRecipe =>
        recipe(output, {
          student: { model: 'student', train: { loras: changed } },
          training: { optimizer: { lr: 1e-2 }, checkpoint: { every: 3 }, ema: { decay: 0.9 } },
        });
      const { student: written } = await trainQuietly(given('both'));
      await expect(trainQuietly(given('both-stopped'), interruptAt(3))).rejects.toThrow();
      await trainQuietly(given('both-stopped'), { resume: true });
      for (const [name, block, rank] of [
        ['content', 'unet.down_blocks.', 2],
        ['style', 'unet.up_blocks.', 4],
      ] as const) {
        const file = join(written, `${name}.safetensors`);
        const { modules } = await inspectAdapter(file, at('student'));
        expect(modules.every((layer) => layer.name.startsWith(block) && layer.rank === rank && layer.norm > 0)).toBe(
          true,
        );
        const stopped = readFileSync(at('both-stopped', 'checkpoints', 'step-000006', `student-${name}.safetensors`));
        expect(
          stopped.equals(readFileSync(at('both', 'checkpoints', 'step-000006', `student-${name}.safetensors`))),
        ).toBe(true);
      }
      // One of them goes on from its file, beside a new one.
      await trainQuietly(given('further', { content: join(written, 'content.safetensors'), style: loras.style }));
      const shared = { first: { targets: 'attention' }, second: { targets: '*.attn2.*' } };
      await expect(trainQuietly(given('shared', shared))).rejects.toThrow(/both sit on .*attn2/);
    },
    TIMEOUT_MS,
  );

  it(
    'several LoRAs are measured together, as the run measured them',
    async () => {
      const signal = new AbortController().signal;
      const given = recipe('measured', {
        student: {
          model: 'student',
          train: {
            loras: { content: { rank: 2, targets: 'down_blocks.*' }, student: { rank: 4, targets: 'up_blocks.*' } },
          },
        },
        training: { optimizer: { lr: 1e-2 }, validation: { every: 6, fraction: 0.25, draws: 2 } },
      });
      const { student: written, validation } = await trainQuietly(given);
      const measure = (path: string): ReturnType<typeof validate> =>
        validate(given, { student: path, progress: silentProgress, signal });
      const whole = await measure(written);
      expect(whole.loss).toBeCloseTo(validation?.loss ?? 0, 5);
      expect(Math.abs((await measure(join(written, 'content.safetensors'))).loss - whole.loss)).toBeGreaterThan(1e-4);
      await expect(measure(at('measured'))).rejects.toMatchObject({
        code: 'ERR_MODEL_FILE',
        what: expect.stringContaining("a run's folder"),
        remedy: expect.stringContaining(written),
      });
    },
    TIMEOUT_MS,
  );
});

describe('losses', () => {
  it(
    'of every name train, with weights, noise offset and another spread of timesteps; each gives another student',
    async () => {
      const settings = [
        {},
        { loss: { id: 'huber', delta: 0.3 } },
        { loss: { id: 'pseudo-huber', schedule: 'snr' } },
        { loss: { id: 'smooth-l1', schedule: 'exponential' } },
        { loss: { id: 'log-cosh' } },
        { weighting: { id: 'min-snr' } },
        { weighting: { id: 'debiased' } },
        { noiseOffset: 0.1 },
        { timesteps: { id: 'logit-normal' } },
        { timesteps: { id: 'uniform', shift: 3 } },
      ];
      const students = new Set<string>();
      for (const [index, training] of settings.entries()) {
        const { loss } = await trainQuietly(recipe(`loss-${index}`, { training: { steps: 2, ...training } }));
        expect(loss).toBeGreaterThan(0);
        students.add(student(`loss-${index}`).toString('base64'));
      }
      expect(students.size).toBe(settings.length);
    },
    TIMEOUT_MS,
  );

  it('refuses what means nothing, by name', () => {
    const refused =
      (changes: Record<string, unknown>): (() => unknown) =>
      () =>
        recipe('none', changes);
    expect(refused({ training: { loss: { id: 'kl' } } })).toThrow(/training\.loss "kl"/);
    expect(refused({ training: { loss: { id: 'mse', temperature: 2 } } })).toThrow(/temperature/);
    const cached = { method: { id: 'cfg', guidance: 5 }, teachers: [{ id: 'a', model: 'student' }] };
    expect(refused({ ...cached, training: { noiseOffset: 0.1 } })).toThrow(/fresh draws/);
    expect(refused({ ...cached, training: { timesteps: { id: 'uniform', shift: 3 } } })).toThrow(/fresh draws/);
    expect(refused({ data: [{ images: 'images', size: [64, 64], aspect: { min: 128 } }] })).toThrow(/no size/);
  });
});

describe('concepts', () => {
  it(
    'of several shapes, with shuffled captions, fill buckets that are counted, and drop nothing',
    async () => {
      const engine = await loadEngine();
      const wide = at('wide');
      mkdirSync(wide);
      for (let index = 0; index < 8; index += 1) {
        const seeds = [BigInt(50 + index)];
        const png = await scope(() => encodePng(noise(engine, { generator: 'philox', seeds, shape: [3, 48, 96] })));
        writeFileSync(join(wide, `${index}.png`), png);
        writeFileSync(join(wide, `${index}.txt`), `tag ${index}, one, two, three`);
      }
      const data = [
        { images: 'images', size: [64, 64] },
        {
          images: 'wide',
          size: [80, 64],
          aspect: { divisor: 16, min: 32, max: 128 },
          shuffle: { variants: 3, keep: 1 },
        },
      ];
      const lines: string[] = [];
      const progress: Progress = { ...silentProgress, log: (line) => lines.push(line) };
      await trainQuietly(recipe('shapes', { data, cache: { dir: 'shapes-cache' }, training: { steps: 4, batch: 3 } }), {
        progress,
      });
      expect(lines.join('\n')).toContain('An epoch has 16 rows (64x64: 8, 96x48: 8).');
    },
    TIMEOUT_MS,
  );

  it(
    'with masks learn what is white, and stay what they were where it is black',
    async () => {
      const data = [{ images: 'images', masks: 'masks' }];
      const training = (masks: object): object => ({ steps: 40, batch: 4, optimizer: { lr: 1e-2 }, masks });
      const loose = training({ unmasked: 0, prior: 1e-6 });
      await trainQuietly(recipe('loose', { data, training: loose }));
      await trainQuietly(recipe('kept', { data, training: training({ unmasked: 0, prior: 20 }) }));
      const outside = async (output: string): Promise<number> => {
        const lines = (await metricsOf(output)).slice(-10);
        return lines.reduce((sum, line) => sum + (line['loss/masks.prior'] ?? Number.NaN), 0) / lines.length;
      };
      expect(await outside('kept')).toBeLessThan(0.5 * (await outside('loose')));
      // Half of the picture counts: about half of the loss of all of it.
      await trainQuietly(recipe('all', { training: { steps: 1, batch: 8 } }));
      await trainQuietly(recipe('half', { data, training: { steps: 1, batch: 8, masks: { unmasked: 0 } } }));
      const [all, half] = [(await metricsOf('all'))[0]?.loss ?? 0, (await metricsOf('half'))[0]?.loss ?? 0];
      expect(half / all).toBeGreaterThan(0.4);
      expect(half / all).toBeLessThan(0.6);
    },
    TIMEOUT_MS,
  );
});
