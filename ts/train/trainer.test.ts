import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { BatchPlan, type BatchRow } from '../data/batches.ts';
import { drawTimestep } from '../data/draws.ts';
import type { Batch, Method } from '../methods/define.ts';
import { defineMethod, methods } from '../methods/index.ts';
import { createOptimizer, Ema, loadEngine, noise, openModel, Tensor, Unet } from '../native/index.ts';
import { silentProgress } from '../progress.ts';
import { listCheckpoints } from './checkpoints.ts';
import { loadState, saveState } from './state.ts';
import { Trainer, type TrainerParts } from './trainer.ts';
import { Validation } from './validation.ts';

/** The smallest UNet of the true kind: two levels, one of them with attention. */
/** torch's defaults. */
const ADAMW = { id: 'adamw', betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0.01 } as const;
const CONFIG = {
  _class_name: 'UNet2DConditionModel',
  sample_size: 4,
  in_channels: 4,
  out_channels: 4,
  block_out_channels: [16, 16],
  down_block_types: ['CrossAttnDownBlock2D', 'DownBlock2D'],
  up_block_types: ['UpBlock2D', 'CrossAttnUpBlock2D'],
  layers_per_block: 1,
  attention_head_dim: 2,
  cross_attention_dim: 8,
  norm_num_groups: 4,
};
const SHAPE = [4, 4, 4];
const TEXT = [77, 8];
const COUNT = 6;

const engine = await loadEngine();
const folder = mkdtempSync(join(tmpdir(), 'potstill-trainer-'));
afterAll(() => rmSync(folder, { recursive: true }));
cpSync(new URL('../../test/fixtures/unet_sd15_tiny/config.json', import.meta.url), join(folder, 'unet', 'config.json'));
const { schedule } = await openModel(engine, folder);

const samples = Array.from({ length: COUNT }, (_, index) => ({
  key: `sample ${index}`,
  image: String(index),
  repeats: 1,
  captionDropout: 0,
  size: '64x64',
}));

/** Latents and text that are noise of the sample's number; a teacher that says the latents are twice as large. */
function load(rows: readonly BatchRow[]): Batch {
  const seedsOf = (at: 'sample' | 'caption', stream: number): bigint[] =>
    rows.map((row) => BigInt(row[at] * 10 + stream));
  const latents = noise(engine, { generator: 'philox', seeds: seedsOf('sample', 0), shape: SHAPE }).scale(0.5);
  const unit = noise(engine, { generator: 'philox', seeds: rows.map(({ drawSeed }) => drawSeed), shape: SHAPE });
  const timesteps = Float64Array.from(rows, ({ drawSeed }) => drawTimestep(drawSeed, [0, 1000]));
  return {
    size: rows.length,
    latents,
    noise: unit,
    timesteps,
    noisy: schedule.addNoise(latents, unit, timesteps),
    text: {
      encoderHiddenStates: noise(engine, { generator: 'philox', seeds: seedsOf('caption', 1), shape: TEXT }),
    },
    unconditional: () => {
      throw new Error('no caption is dropped');
    },
    teachers: [{ id: 'double', weight: 1, cond: { kind: 'x0', schedule, tensor: latents.scale(2) } }],
    perRow: (values) => Tensor.fromArray(engine, Float32Array.from(values), [values.length, 1, 1, 1]),
  };
}

interface Changes extends Partial<Pick<TrainerParts, 'accumulation' | 'lr' | 'recompute' | 'clip'>> {
  readonly batch?: number;
  readonly method?: Method;
}

async function trainer(changes: Changes = {}): Promise<Trainer> {
  const { batch = 2, method = methods.denoise as unknown as Method, ...others } = changes;
  const unet = await Unet.random(engine, CONFIG, 1n, 'training');
  unet.setTrainable('all');
  return new Trainer({
    loras: [],
    student: { unet, prediction: 'epsilon', schedule },
    optimizers: { student: createOptimizer(unet, ADAMW) },
    ema: Ema.create(unet, { decay: 0.9 }),
    prior: undefined,
    teachers: undefined,
    methods: [{ method, options: { id: method.id }, state: { ...method.state } }],
    regularise: { prior: 0, data: 0 },
    plan: new BatchPlan({ samples, among: [...samples.keys()], seed: 7, batch, draws: 1 }),
    source: { keyOf: ({ sample }) => `sample ${sample}`, load },
    seed: 7,
    loss: {
      distance: { id: 'mse' },
      weighting: { id: 'none' },
      snr: () => 1,
      masks: { unmasked: 1, prior: 0, normalise: false },
    },
    lr: 2e-3,
    schedule: { id: 'constant', warmup: 0 },
    steps: 100,
    accumulation: 1,
    clip: 1,
    recompute: false,
    ...others,
  });
}

async function losses(given: Trainer, from: number, to: number): Promise<number[]> {
  const found: number[] = [];
  for (let number = from; number < to; number += 1) found.push((await given.update(number)).loss);
  return found;
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
const digest = (given: Trainer): Promise<string> => given.parts.student.unet.digest();

describe('Trainer', () => {
  it('lowers the loss', async () => {
    const found = await losses(await trainer({ batch: 8 }), 0, 40);
    expect(mean(found.slice(-10))).toBeLessThan(0.8 * mean(found.slice(0, 5)));
  }, 60_000);

  it('takes the same step by batches as by one, and with recomputed activations', async () => {
    const [whole, halves, recomputed] = [
      await trainer({ batch: 4 }),
      await trainer({ batch: 2, accumulation: 2 }),
      await trainer({ batch: 4, recompute: true }),
    ];
    const figures = await whole.update(0);
    for (const [other, digits] of [
      [await halves.update(0), 5],
      [await recomputed.update(0), 7],
    ] as const) {
      expect(other.loss).toBeCloseTo(figures.loss, digits);
      expect(other.gradNorm).toBeCloseTo(figures.gradNorm, digits - 1);
    }
  });

  it('logs the loss against each teacher, and reads it as the kind that the student predicts', async () => {
    const figures = await (await trainer({ method: methods['multi-teacher'] as unknown as Method })).update(0);
    expect(figures.also['loss/double']).toBeCloseTo(figures.loss, 5);
    expect(figures.lr).toBe(2e-3);
  });

  it('leaves figures that are not finite out of what is logged', async () => {
    let calls = 0;
    const ratios = defineMethod({
      id: 'ratios',
      options: z.strictObject({ id: z.literal('ratios') }),
      needs: () => ({ fields: [], roles: ['student'] }),
      step: (_phase, batch, { student }) => {
        const number = (value: number): Tensor => Tensor.fromArray(engine, [value], [1]).sum();
        calls += 1;
        const figures = { half: calls === 1 ? number(0).div(number(0)) : number(3), none: number(0).div(number(0)) };
        return [{ prediction: student.predict(batch, batch.text), target: student.truth(batch), figures }];
      },
    }) as unknown as Method;
    const { also } = await (await trainer({ method: ratios, accumulation: 2 })).update(0);
    expect(calls).toBe(2);
    expect(also).toEqual({ 'ratios/half': 3 });
  });

  it('refuses what is not finite, naming step and samples, and leaves the weights alone', async () => {
    const broken = await trainer();
    const before = await digest(broken);
    const { source } = broken.parts;
    const poisoned = new Trainer({
      ...broken.parts,
      source: {
        ...source,
        load: (rows) => {
          const batch = source.load(rows);
          const factors = Float64Array.from(rows, (_, row) => (row === 1 ? Number.NaN : 1));
          return { ...batch, noise: batch.noise.mul(batch.perRow(factors)) };
        },
      },
    });
    const second = broken.parts.plan.rows(4)[1];
    await expect(poisoned.update(4)).rejects.toMatchObject({
      code: 'ERR_TRAIN_NOT_FINITE',
      where: 'step 5',
      what: `the loss is not finite for sample ${second?.sample}`,
    });
    expect(await digest(broken)).toBe(before);
  });

  it('goes on from a checkpoint to the same bits', async () => {
    const whole = await trainer({ accumulation: 2 });
    const expected = await losses(whole, 0, 5);
    const first = await trainer({ accumulation: 2 });
    expect(await losses(first, 0, 2)).toEqual(expected.slice(0, 2));
    const checkpoints = join(folder, 'checkpoints');
    await saveState(checkpoints, first.parts, { step: 2, seconds: 9, cache: {} });
    const second = await trainer({ accumulation: 2 });
    const [checkpoint] = await listCheckpoints(checkpoints);
    if (checkpoint === undefined) throw new Error('there is no checkpoint');
    expect(await loadState(checkpoint, second.parts, {}, silentProgress)).toMatchObject({ step: 2, seconds: 9 });
    expect(await losses(second, 2, 5)).toEqual(expected.slice(2));
    expect(await digest(second)).toBe(await digest(whole));
    for (const given of [whole, second]) given.parts.ema?.swap();
    expect(await digest(second)).toBe(await digest(whole));
    await expect(loadState(checkpoint, second.parts, { text: 'ab' }, silentProgress)).rejects.toMatchObject({
      code: 'ERR_RUN_OTHER_CACHE',
    });
    const elsewhere = join(checkpoint.folder, 'state.json');
    writeFileSync(elsewhere, readFileSync(elsewhere, 'utf8').replace(engine.kernelClass, 'another'));
    const said: string[] = [];
    await loadState(checkpoint, second.parts, {}, { ...silentProgress, log: (line) => said.push(line) });
    expect(said).toEqual([expect.stringMatching(/another kernels.*bits/)]);
  }, 60_000);

  it('refuses a checkpoint that was cut short, naming the file', async () => {
    const given = await trainer();
    await given.update(0);
    const checkpoint = await saveState(join(folder, 'cut'), given.parts, { step: 1, seconds: 0, cache: {} });
    for (const name of ['student', 'optimizer', 'ema']) {
      const file = join(checkpoint.folder, `${name}.safetensors`);
      const whole = readFileSync(file);
      writeFileSync(file, whole.subarray(0, whole.length - 8));
      await expect(loadState(checkpoint, given.parts, {}, silentProgress)).rejects.toMatchObject({
        kind: 'input',
        where: expect.stringContaining(file),
      });
      writeFileSync(file, whole);
    }
  });

  it('keeps what a method remembers in checkpoints', async () => {
    const counting = defineMethod({
      id: 'counting',
      options: z.strictObject({ id: z.literal('counting') }),
      needs: () => ({ fields: [], roles: ['student'] }),
      state: { steps: 0 },
      phases: (step) => (step % 2 === 0 ? ['student', 'student'] : ['student']),
      step: (_phase, batch, { student }, _rng, { state }) => {
        state['steps'] = (state['steps'] ?? 0) + 1;
        return [{ prediction: student.predict(batch, batch.text), target: student.truth(batch) }];
      },
    }) as unknown as Method;
    const given = await trainer({ method: counting });
    await losses(given, 0, 2);
    expect(given.parts.methods[0].state).toEqual({ steps: 3 });
    const checkpoints = join(folder, 'counting');
    const { folder: written } = await saveState(checkpoints, given.parts, { step: 2, seconds: 0, cache: {} });
    expect(JSON.parse(readFileSync(join(written, 'state.json'), 'utf8'))).toMatchObject({ method: { steps: 3 } });
  });

  it('has the next batch read while it computes, in the order of their use', async () => {
    const twice = { ...(methods.denoise as unknown as Method), phases: () => ['student', 'student'] };
    const given = await trainer({ method: twice, accumulation: 2 });
    const { plan, source } = given.parts;
    const events: string[] = [];
    const say = (what: string) => (rows: readonly BatchRow[]) => {
      const at = Array.from({ length: 4 }, (_, index) => index).find(
        (index) => plan.rows(index)[0]?.drawSeed === rows[0]?.drawSeed,
      );
      events.push(`${what} ${at}`);
    };
    const asking = new Trainer({
      ...given.parts,
      steps: 2,
      source: {
        ...source,
        load: (rows) => {
          say('load')(rows);
          return source.load(rows);
        },
        readAhead: say('ahead'),
      },
    });
    const updated = asking.update(0);
    // Nothing has been waited for yet, and the engine has both batches to compute.
    expect(events).toEqual(['load 0', 'ahead 1', 'load 1', 'ahead 0']);
    await updated;
    expect(events.slice(4)).toEqual(['load 0', 'ahead 1', 'load 1', 'ahead 2']);
    events.length = 0;
    await asking.update(1);
    // There is nothing after the run's last batch.
    expect(events.slice(4)).toEqual(['load 2', 'ahead 3', 'load 3']);
  });

  it('leaves no handle behind', async () => {
    const given = await trainer();
    await given.update(0);
    const { liveHandles } = engine;
    await losses(given, 1, 4);
    expect(engine.liveHandles).toBe(liveHandles);
  });
});

describe('Validation', () => {
  it('measures the same rows alike, without changing the run, and tells shuffled captions apart', async () => {
    const given = await trainer();
    const heldOut = { samples, among: [0, 2, 5], seed: 7, draws: 2 };
    const validation = new Validation(given.parts, { ...heldOut, batch: 4 });
    const before = await digest(given);
    const first = await validation.measure(0);
    expect(await validation.measure(0)).toEqual(first);
    expect(await new Validation(given.parts, { ...heldOut, batch: 2 }).measure(0)).toMatchObject({
      loss: expect.closeTo(first.loss, 5),
    });
    expect(first.shuffledCaptions).not.toBe(first.loss);
    const setOf = (sample: number): string => (sample === 0 ? 'zero' : 'others');
    const { sets, ...all } = await new Validation(given.parts, { ...heldOut, batch: 4, setOf }).measure(0);
    expect(all).toEqual(first);
    expect(Object.keys(sets ?? {})).toEqual(['others', 'zero']);
    for (const name of ['loss', 'shuffledCaptions'] as const) {
      const [others, zero] = [sets?.['others']?.[name] ?? 0, sets?.['zero']?.[name] ?? 0];
      expect((2 * others + zero) / 3).toBeCloseTo(first[name] ?? 0, 6);
    }
    expect(await digest(given)).toBe(before);
  });

  it('measures the own method of a recipe, and others by their data entries alone', async () => {
    const given = await trainer();
    const [own] = given.parts.methods;
    const teacher = methods['multi-teacher'] as unknown as Method;
    const parts = {
      ...given.parts,
      methods: [own, { method: teacher, options: { id: teacher.id }, state: {} }] as const,
    };
    const parted = samples.map((sample, index) => ({ ...sample, part: index < 3 ? 0 : 1 }));
    const measure = (among: readonly number[], setOf?: (sample: number) => string): ReturnType<Validation['measure']> =>
      new Validation(parts, { samples: parted, among, seed: 7, draws: 2, batch: 2, setOf }).measure(0);
    const [denoised, distilled] = [(await measure([0, 1])).loss, (await measure([4, 5])).loss];
    expect(distilled).not.toBeCloseTo(denoised, 2);
    const { sets, loss } = await measure([0, 4, 1, 5], (sample) => (sample < 3 ? 'own' : 'other'));
    expect(loss).toBeCloseTo(denoised, 6);
    expect(sets?.['own']?.loss).toBeCloseTo(denoised, 6);
    expect(sets?.['other']?.loss).toBeCloseTo(distilled, 6);
  });
});
