import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { potstill } from '../../test/support/command-line.ts';
import { writeEchoUnet } from '../../test/support/echo-unet.ts';
import { writeTinyImages } from '../../test/support/tiny-data.ts';
import { writeTinyModel } from '../../test/support/tiny-model.ts';
import { resolveValue, trainQuietly } from '../../test/support/training.ts';
import { interruptedError } from '../errors.ts';
import { loadEngine } from '../native/index.ts';
import { type Progress, silentProgress } from '../progress.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { stepName } from './checkpoints.ts';
import { readMetrics, type StepMetrics } from './metrics.ts';
import { validate } from './validate.ts';

/** Trainings of models that take milliseconds, several of them one after another. */
const TIMEOUT_MS = 120_000;

const folder = mkdtempSync(join(tmpdir(), 'potstill-train-'));

beforeAll(async () => {
  const engine = await loadEngine();
  await writeTinyModel(engine, join(folder, 'student'), 1);
  await writeEchoUnet(engine, join(folder, 'teacher-a'), 2);
  await writeEchoUnet(engine, join(folder, 'teacher-b'), 3);
  await writeTinyImages(engine, join(folder, 'images'), 12);
}, TIMEOUT_MS);

afterAll(() => rmSync(folder, { recursive: true }));

const cfg = { id: 'cfg', guidance: 5 };
const sampling = { every: 4, prompts: ['a red picture'], sampler: 'ddim', steps: 2, guidance: 3, seeds: [1, 2] };
const teachers = [
  { id: 'a', model: 'teacher-a', weight: 3 },
  { id: 'b', model: 'teacher-b', weight: 1 },
];

function recipe(output: string, changes: Record<string, unknown> = {}, home = folder): ResolvedRecipe {
  const { training, ...others } = changes;
  const value = {
    version: 1,
    name: output,
    output,
    seed: 3,
    student: { model: 'student' },
    data: [{ images: 'images', captionDropout: 0.2 }],
    cache: { dir: 'cache', draws: 2 },
    method: { id: 'denoise' },
    ...others,
    training: { steps: 6, batch: 2, optimizer: { lr: 1e-3 }, save: { dtype: 'f32' }, ...(training ?? {}) },
  };
  return resolveValue(join(home, 'recipe.json'), value);
}

const metricsOf = (output: string): Promise<StepMetrics[]> => readMetrics(join(folder, output, 'metrics.jsonl'));

/** What must be equal in runs of one recipe: everything but the time that it took. */
const withoutTime = (metrics: readonly StepMetrics[]): object[] =>
  metrics.map((line) => ({ ...line, secondsPerStep: undefined }));

/** A signal that is aborted when a run reports that it has done `step` steps. */
function interruptAt(step: number): { signal: AbortSignal; progress: Progress } {
  const controller = new AbortController();
  const task = {
    advance: () => {},
    set: (done: number) => {
      if (done === step) controller.abort(interruptedError());
    },
    note: () => {},
    end: () => {},
    [Symbol.dispose]: () => {},
  };
  return {
    signal: controller.signal,
    progress: { start: (label) => (label === 'training' ? task : silentProgress.start('')), log: () => {} },
  };
}

/** Two runs hold the same bits after a step. */
function expectSameState(one: string, other: string, step: number, files = ['student', 'optimizer']): void {
  for (const file of files) {
    const [first, second] = [one, other].map((output) =>
      readFileSync(join(folder, output, 'checkpoints', stepName(step), `${file}.safetensors`)),
    );
    expect(second?.equals(first ?? Buffer.of()), file).toBe(true);
  }
}

describe('train', () => {
  it(
    'lowers the loss of ordinary training and leaves a whole run',
    async () => {
      const result = await trainQuietly(recipe('denoise', { training: { steps: 40, batch: 4 } }));
      const metrics = await metricsOf('denoise');
      expect(metrics.map(({ step }) => step)).toEqual(Array.from({ length: 40 }, (_, index) => index + 1));
      const mean = (lines: readonly StepMetrics[]): number =>
        lines.reduce((sum, { loss }) => sum + loss, 0) / lines.length;
      expect(mean(metrics.slice(-10))).toBeLessThan(mean(metrics.slice(0, 10)));
      expect(metrics[4]).toMatchObject({ step: 5, lr: 1e-3, samples: 20 });
      expect(result).toMatchObject({ step: 40, folder: join(folder, 'denoise') });
      expect(readdirSync(result.folder).sort()).toEqual(['checkpoints', 'metrics.jsonl', 'recipe.json', 'student']);
      expect(readdirSync(result.student).sort()).toEqual(['config.json', 'diffusion_pytorch_model.safetensors']);
    },
    TIMEOUT_MS,
  );

  it(
    'measures data held out as a whole and trains on none of it; validate measures the same',
    async () => {
      const engine = await loadEngine();
      await writeTinyImages(engine, join(folder, 'held-a'), 3, 100);
      await writeTinyImages(engine, join(folder, 'held-b'), 2, 200);
      cpSync(join(folder, 'images'), join(folder, 'images-and-one'), { recursive: true });
      for (const end of ['png', 'txt']) {
        cpSync(join(folder, 'held-a', `0.${end}`), join(folder, 'images-and-one', `12.${end}`));
      }
      const train = { captionDropout: 0.2 };
      const heldOut = ['held-a', 'held-b'].map((images) => ({ images, use: 'validation' }));
      const validation = { every: 3, samples: 4, draws: 2 };
      const held = recipe('held', {
        method: cfg,
        teachers,
        data: [heldOut[0], { images: 'images-and-one', ...train }, heldOut[1]],
        cache: { dir: 'cache-held', draws: 2 },
        training: { validation },
      });
      const result = await trainQuietly(held);
      await trainQuietly(recipe('plain', { method: cfg, teachers, data: [{ images: 'images', ...train }] }));
      const [withHeldOut, plain] = [await metricsOf('held'), await metricsOf('plain')];
      // The picture that lies in both folders was not trained on: these are the batches of the folder without it.
      expect(withHeldOut.map(({ loss, gradNorm }) => [loss, gradNorm])).toEqual(
        plain.map(({ loss, gradNorm }) => [loss, gradNorm]),
      );
      const names = ['loss', 'shuffledCaptions'].flatMap((name) => [name, `${name}/held-a`, `${name}/held-b`]);
      expect(
        Object.keys(withHeldOut[2] ?? {})
          .filter((key) => key.startsWith('validation/'))
          .sort(),
      ).toEqual(names.map((name) => `validation/${name}`));
      expect(withHeldOut[1]).not.toHaveProperty('validation/loss');

      const { signal } = new AbortController();
      const measured = await validate(held, { student: result.student, progress: silentProgress, signal });
      expect(measured).toEqual({ student: result.student, samples: 4, draws: 2, ...result.validation });
      const before = await validate(held, { progress: silentProgress, signal });
      expect(before.student).toBe(join(folder, 'student'));
      expect(before.loss).not.toBe(measured.loss);
      await expect(validate(recipe('none'), { progress: silentProgress, signal })).rejects.toMatchObject({
        code: 'ERR_VALIDATE_NO_DATA',
        remedy: expect.stringContaining('"use": "validation"'),
      });
    },
    TIMEOUT_MS,
  );

  it(
    'validate refuses what is no student before it builds anything',
    async () => {
      const { signal } = new AbortController();
      const changes = { cache: { dir: 'cache-never' }, training: { validation: { every: 3, fraction: 0.2 } } };
      const measure = (student: string) =>
        validate(recipe('never', changes), { student: join(folder, student), progress: silentProgress, signal });
      mkdirSync(join(folder, 'some-run', 'student'), { recursive: true });
      cpSync(join(folder, 'student', 'unet'), join(folder, 'some-run', 'student'), { recursive: true });
      for (const [student, what, remedy] of [
        ['tpyo', 'no such file', "a run's student"],
        ['images', 'neither a model nor a UNet', "a run's student"],
        ['some-run', "a run's folder", join(folder, 'some-run', 'student')],
        [join('student', 'vae'), 'holds no unet', 'vae'],
      ] as const) {
        await expect(measure(student), student).rejects.toMatchObject({
          code: 'ERR_MODEL_FILE',
          kind: 'input',
          where: join(folder, student),
          what: expect.stringContaining(what),
          remedy: expect.stringContaining(remedy),
        });
      }
      expect(existsSync(join(folder, 'cache-never'))).toBe(false);
    },
    TIMEOUT_MS,
  );

  it(
    'validate measures a single file as the folder that it was made of',
    async () => {
      const { signal } = new AbortController();
      const given = recipe('from-file', { training: { validation: { every: 3, fraction: 0.2, draws: 1 } } });
      const student = join(folder, 'student.safetensors');
      const { code, err } = await potstill(
        'model',
        'convert',
        join(folder, 'student'),
        '--out',
        student,
        '--allow',
        'tokenizer',
      );
      expect(code, err).toBe(0);
      const ofFile = await validate(given, { student, progress: silentProgress, signal });
      const ofFolder = await validate(given, { progress: silentProgress, signal });
      expect(ofFile).toEqual({ ...ofFolder, student });
    },
    TIMEOUT_MS,
  );

  it(
    'validate counts its rows and ends between batches when it is interrupted',
    async () => {
      const validation = { every: 3, fraction: 0.5, samples: 4, draws: 3 };
      const measured = recipe('watched', { training: { validation } });
      const controller = new AbortController();
      const counts: number[] = [];
      let total: number | undefined;
      let limit = Number.POSITIVE_INFINITY;
      const progress: Progress = {
        start: (label, options) => {
          const task = silentProgress.start(label);
          if (!label.startsWith('measuring')) return task;
          total = options?.total;
          const advance = (rows = 1): void => {
            counts.push(rows);
            if (counts.length === limit) controller.abort(interruptedError());
          };
          return { ...task, advance };
        },
        log: () => {},
      };
      await validate(measured, { progress, signal: controller.signal });
      expect(total).toBe(24); // 4 samples, 3 draws, with their own captions and with others
      expect(counts).toEqual(Array(12).fill(2));
      counts.length = 0;
      limit = 7;
      const again = validate(measured, { progress, signal: controller.signal });
      await expect(again).rejects.toMatchObject({ code: 'ERR_INTERRUPTED' });
      expect(counts).toHaveLength(7);
    },
    TIMEOUT_MS,
  );

  it(
    'distils two guided teachers, logs both, and needs only their caches',
    async () => {
      await trainQuietly(recipe('distil', { method: cfg, teachers, sampling }));
      expect(readdirSync(join(folder, 'distil', 'samples'))).toEqual(['step-000004', 'step-000006']);
      for (const step of ['step-000004', 'step-000006']) {
        expect(readdirSync(join(folder, 'distil', 'samples', step))).toEqual([
          'prompt-00-seed-1.png',
          'prompt-00-seed-2.png',
        ]);
      }
      for (const line of await metricsOf('distil')) {
        expect(Object.keys(line)).toEqual(expect.arrayContaining(['loss/a', 'loss/b']));
      }
      for (const { model } of teachers) rmSync(join(folder, model), { recursive: true });
      const again = await trainQuietly(recipe('distil-without-teachers', { method: cfg, teachers }));
      expect(again.step).toBe(6);
      expect(withoutTime(await metricsOf('distil-without-teachers'))).toEqual(withoutTime(await metricsOf('distil')));
    },
    TIMEOUT_MS,
  );

  it(
    'goes on after an interruption with the same bits as without one',
    async () => {
      const training = {
        accumulation: 2,
        schedule: { id: 'cosine', warmup: 2 },
        ema: { decay: 0.9 },
        validation: { every: 2, fraction: 0.2, samples: 2, draws: 2 },
      };
      await trainQuietly(recipe('whole', { training }));
      const parts = recipe('parts', { training });
      await expect(trainQuietly(parts, interruptAt(3))).rejects.toMatchObject({ code: 'ERR_INTERRUPTED' });
      expect(readdirSync(join(folder, 'parts', 'checkpoints'))).toEqual(['step-000003']);
      await expect(trainQuietly(parts)).rejects.toMatchObject({ code: 'ERR_RUN_EXISTS' });
      await trainQuietly(parts, { resume: true });
      expect(withoutTime(await metricsOf('parts'))).toEqual(withoutTime(await metricsOf('whole')));
      expectSameState('whole', 'parts', 6, ['student', 'optimizer', 'ema']);
    },
    TIMEOUT_MS,
  );

  it(
    'trains on pictures of several sizes, and goes on to the same bits',
    async () => {
      const data = [{ images: 'images' }, { images: 'images', size: [64, 128] }];
      const changes = {
        data,
        cache: { dir: 'cache-sizes' },
        training: { steps: 8, validation: { every: 4, fraction: 0.2, samples: 4, draws: 1 } },
      };
      await trainQuietly(recipe('sizes', changes));
      const metrics = await metricsOf('sizes');
      expect(metrics.every(({ loss }) => Number.isFinite(loss))).toBe(true);
      expect(metrics.at(-1)).toHaveProperty('validation/loss');
      const parts = recipe('sizes-parts', changes);
      await expect(trainQuietly(parts, interruptAt(3))).rejects.toMatchObject({ code: 'ERR_INTERRUPTED' });
      await trainQuietly(parts, { resume: true });
      expect(withoutTime(await metricsOf('sizes-parts'))).toEqual(withoutTime(metrics));
      expectSameState('sizes', 'sizes-parts', 8);
    },
    TIMEOUT_MS,
  );

  it(
    'goes on to the same bits after the whole project was moved',
    async () => {
      const home = join(folder, 'home');
      for (const name of ['student', 'images']) cpSync(join(folder, name), join(home, name), { recursive: true });
      const at = (place: string): ResolvedRecipe => recipe('run', {}, place);
      await expect(trainQuietly(at(home), interruptAt(3))).rejects.toMatchObject({ code: 'ERR_INTERRUPTED' });
      const whole = recipe('unmoved', {}, home);
      await trainQuietly(whole);
      const away = join(folder, 'away', 'from-home');
      mkdirSync(join(folder, 'away'));
      renameSync(home, away);
      expect((await trainQuietly(at(away), { resume: true })).step).toBe(6);
      const metrics = (name: string): Promise<StepMetrics[]> => metricsOf(join('away', 'from-home', name));
      expect(withoutTime(await metrics('run'))).toEqual(withoutTime(await metrics('unmoved')));
      expectSameState(join('away', 'from-home', 'unmoved'), join('away', 'from-home', 'run'), 6);

      // The same places with other weights, or the same pictures under each other's names, are something else.
      const config = join(away, 'student', 'unet', 'config.json');
      const text = readFileSync(config, 'utf8');
      writeFileSync(config, text.replace('"sample_size": 8', '"sample_size": 8, "dropout": 0'));
      const grown = recipe('run', { training: { steps: 7 } }, away);
      await expect(trainQuietly(grown, { resume: true })).rejects.toMatchObject({
        code: 'ERR_RUN_OTHER_CACHE',
        what: expect.stringContaining('student'),
        remedy: expect.not.stringContaining('names'),
      });
      writeFileSync(config, text);
      for (const [from, to] of [
        ['0', 'x'],
        ['1', '0'],
        ['x', '1'],
      ]) {
        for (const end of ['png', 'txt']) {
          renameSync(join(away, 'images', `${from}.${end}`), join(away, 'images', `${to}.${end}`));
        }
      }
      await expect(trainQuietly(grown, { resume: true })).rejects.toMatchObject({
        code: 'ERR_RUN_OTHER_CACHE',
        what: expect.stringContaining('data'),
        remedy: expect.stringContaining('pictures under the names that they had'),
      });
    },
    TIMEOUT_MS,
  );

  it(
    'goes on with the same cache elsewhere, not with another',
    async () => {
      const images = join(folder, 'images-2');
      cpSync(join(folder, 'images'), images, { recursive: true });
      const at = (dir: string, steps: number): ResolvedRecipe =>
        recipe('moved', { training: { steps }, data: [{ images: 'images-2' }], cache: { dir } });
      await trainQuietly(at('cache-2', 2));
      expect((await trainQuietly(at('cache-3', 4), { resume: true })).step).toBe(4);
      writeFileSync(join(images, '0.txt'), 'another caption');
      await expect(trainQuietly(at('cache-4', 6), { resume: true })).rejects.toMatchObject({
        code: 'ERR_RUN_OTHER_CACHE',
        what: expect.stringContaining('text'),
      });
    },
    TIMEOUT_MS,
  );
});
