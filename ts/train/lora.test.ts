import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { drawWith, LEVEL, pictureDistance, pictureText, SAMPLE_FILE, SAMPLING } from '../../test/support/drawn.ts';
import { writeEchoUnet } from '../../test/support/echo-unet.ts';
import { interruptAt } from '../../test/support/interrupt.ts';
import { viewSafetensors } from '../../test/support/safetensors.ts';
import { writeTinyImages } from '../../test/support/tiny-data.ts';
import { writeTinyModel } from '../../test/support/tiny-model.ts';
import { resolveValue, trainQuietly } from '../../test/support/training.ts';
import { inspectAdapter } from '../adapter/index.ts';
import { loadEngine } from '../native/index.ts';
import { silentProgress } from '../progress.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { stepName } from './checkpoints.ts';
import { readMetrics, type StepMetrics } from './metrics.ts';
import { validate } from './validate.ts';

/** Trainings of models that take milliseconds, several of them one after another. */
const TIMEOUT_MS = 120_000;

const folder = mkdtempSync(join(tmpdir(), 'potstill-lora-students-'));
const at = (...names: string[]): string => join(folder, ...names);

beforeAll(async () => {
  const engine = await loadEngine();
  await writeTinyModel(engine, at('student'), 1);
  await writeEchoUnet(engine, at('teacher-a'), 2);
  await writeEchoUnet(engine, at('teacher-b'), 3);
  await writeTinyImages(engine, at('images'), 12);
}, TIMEOUT_MS);

afterAll(() => rmSync(folder, { recursive: true }));

const teachers = [
  { id: 'a', model: 'teacher-a', weight: 3 },
  { id: 'b', model: 'teacher-b', weight: 1 },
];
const distilled = { method: { id: 'cfg', guidance: 5 }, teachers };

function recipe(output: string, lora: object, changes: Record<string, unknown> = {}): ResolvedRecipe {
  const { training, ...others } = changes;
  const value = {
    version: 1,
    name: output,
    output,
    seed: 3,
    student: { model: 'student', train: { lora } },
    data: [{ images: 'images', captionDropout: 0.2 }],
    cache: { dir: 'cache', draws: 2 },
    method: { id: 'denoise' },
    ...others,
    training: { steps: 6, batch: 2, optimizer: { lr: 1e-2 }, save: { dtype: 'f32' }, ...(training ?? {}) },
  };
  return resolveValue(at('recipe.json'), value);
}

const metricsOf = (output: string): Promise<StepMetrics[]> => readMetrics(at(output, 'metrics.jsonl'));

const mean = (lines: readonly StepMetrics[]): number => lines.reduce((sum, { loss }) => sum + loss, 0) / lines.length;

/** Names of the tensors in a file of a run's checkpoint. */
function namesIn(run: string, step: number, file: string): string[] {
  return [...viewSafetensors(readFileSync(at(run, 'checkpoints', stepName(step), file))).keys()];
}

describe('a LoRA student', () => {
  it(
    "learns two guided teachers and leaves an adapter that says what it is; the student's own weights stay",
    async () => {
      const training = { steps: 60, batch: 4, save: { dtype: 'f16' } };
      const result = await trainQuietly(recipe('distil', { rank: 4, alpha: 8 }, { ...distilled, training }));
      const metrics = await metricsOf('distil');
      expect(mean(metrics.slice(-10))).toBeLessThan(0.9 * mean(metrics.slice(0, 10)));
      expect(Object.keys(metrics[0] ?? {})).toEqual(expect.arrayContaining(['loss/a', 'loss/b']));
      expect(result.student).toBe(at('distil', 'student.safetensors'));
      expect(readdirSync(at('distil')).sort()).toEqual([
        'checkpoints',
        'metrics.jsonl',
        'recipe.json',
        'student.safetensors',
      ]);
      const report = await inspectAdapter(result.student, at('student'));
      expect(report).toMatchObject({
        kind: 'sd15',
        dialect: 'kohya',
        dtype: 'F16',
        kinds: { lora: expect.any(Number) },
      });
      expect(
        report.modules.every(({ name, rank, alpha }) => /\.attn[12]\./.test(name) && rank === 4 && alpha === 8),
      ).toBe(true);
      expect(report.modules.some(({ norm }) => norm > 0)).toBe(true);
      expect(report.metadata).toMatchObject({
        'modelspec.title': 'distil',
        ss_network_dim: '4',
        ss_network_alpha: '8',
        ss_steps: '60',
      });
      expect(report.provenance).toMatchObject([
        {
          operation: 'train',
          details: { method: { id: 'cfg', guidance: 5 }, teachers: [{ id: 'a', model: 'teacher-a', weight: 3 }, {}] },
        },
      ]);
      expect(JSON.stringify(report.metadata)).not.toContain(folder);
      for (const file of ['student.safetensors', 'optimizer.safetensors']) {
        const names = namesIn('distil', 60, file);
        expect(names.length).toBeGreaterThan(0);
        expect(names.filter((name) => !/\.attn[12]\..*\.lora_[AB]\.weight/.test(name))).toEqual([]);
      }
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
      const lora = { rank: 3, alpha: 5, targets: ['transformers', '*.resnets.*.conv1'] };
      await trainQuietly(recipe('whole', lora, { training }));
      const parts = recipe('parts', lora, { training });
      await expect(trainQuietly(parts, interruptAt(3))).rejects.toMatchObject({ code: 'ERR_INTERRUPTED' });
      const checkpoint = at('parts', 'checkpoints', stepName(3));
      const { modules } = await inspectAdapter(join(checkpoint, 'student.safetensors'), at('student'));
      expect(new Set(modules.map(({ alpha, scale }) => `${alpha} ${scale}`))).toEqual(new Set([`5 ${5 / 3}`]));
      await expect(inspectAdapter(join(checkpoint, 'ema.safetensors'), at('student'))).rejects.toMatchObject({
        code: 'ERR_ADAPTER_KEYS',
      });
      await trainQuietly(parts, { resume: true });
      const withoutTime = (lines: readonly StepMetrics[]): object[] =>
        lines.map((line) => ({ ...line, secondsPerStep: undefined }));
      expect(withoutTime(await metricsOf('parts'))).toEqual(withoutTime(await metricsOf('whole')));
      for (const file of ['student', 'optimizer', 'ema'].map((name) => `${name}.safetensors`)) {
        const [one, other] = ['whole', 'parts'].map((run) => readFileSync(at(run, 'checkpoints', stepName(6), file)));
        expect(one?.equals(other ?? Buffer.of()), file).toBe(true);
      }
      const [one, other] = ['whole', 'parts'].map((run) => readFileSync(at(run, 'student.safetensors')));
      expect(one?.length).toBe(other?.length);
      const otherRank = recipe('parts', { ...lora, rank: 4 }, { training });
      await expect(trainQuietly(otherRank, { resume: true })).rejects.toMatchObject({
        code: 'ERR_RUN_OTHER_RECIPE',
        what: expect.stringContaining('student.train.lora.rank'),
      });
    },
    TIMEOUT_MS,
  );

  it(
    'is what sampling with the file gives, what validation measures, and replaced when a run goes on',
    async () => {
      const changes = {
        ...distilled,
        sampling: SAMPLING,
        data: [{ images: 'images' }],
        training: { steps: 8, batch: 4, validation: { every: 8, fraction: 0.25, samples: 3, draws: 2 } },
      };
      const given = recipe('sampled', { rank: 4, targets: 'all' }, changes);
      const { student, validation } = await trainQuietly(given);
      const during = at('sampled', 'samples', stepName(8), SAMPLE_FILE);
      const draw = (to: string, ...more: string[]): Promise<string> =>
        drawWith(at('student'), at('pictures', to), ...more);
      expect(await pictureDistance(await draw('with', '--lora', student), during)).toBeLessThan(1.01 * LEVEL);
      const half = await draw('half', '--lora', `${student}:0.5`);
      expect(await pictureDistance(half, during)).toBeGreaterThan(1.01 * LEVEL);
      expect(await pictureDistance(await draw('without'), during)).toBeGreaterThan(1.01 * LEVEL);
      expect(pictureText(half)).toContain('Adapters: "student.safetensors:0.5"');

      const signal = new AbortController().signal;
      const measured = await validate(given, { student, progress: silentProgress, signal });
      expect(measured.loss).toBeCloseTo(validation?.loss ?? 0, 5);
      const before = readFileSync(student);
      const longer = recipe(
        'sampled',
        { rank: 4, targets: 'all' },
        {
          ...changes,
          training: { ...changes.training, steps: 10 },
        },
      );
      expect((await trainQuietly(longer, { resume: true })).student).toBe(student);
      expect(readFileSync(student).equals(before)).toBe(false);
    },
    TIMEOUT_MS,
  );

  it('refuses targets that fit no layer, before anything is written', async () => {
    await expect(trainQuietly(recipe('none', { targets: ['atention'] }))).rejects.toMatchObject({
      code: 'ERR_ADAPTER_INPUT',
      kind: 'input',
      what: expect.stringContaining('fits no layer'),
    });
    expect(readdirSync(folder)).not.toContain('none');
  });
});
