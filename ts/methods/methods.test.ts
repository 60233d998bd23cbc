import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { gradients, loadEngine, openModel, type PredictionKind, scope, Tensor } from '../native/index.ts';
import type { Batch, Roles, TextConditioning } from './define.ts';
import { methodOf, methodOptions } from './index.ts';
import { evaluate, type MaskOptions } from './loss.ts';
import { lossOptions, weightingOptions } from './loss-options.ts';
import { type Point, type Prediction, truth } from './prediction.ts';
import { effectiveGuidance, type Regularisers, regularise } from './regularise.ts';
import { stepRng } from './rng.ts';
import { hasWeights, weightOf } from './weighting.ts';

/** Losses and gradients by PyTorch and diffusers: test/fixtures/make_methods.py. */
const fixture = z
  .object({
    shape: z.array(z.int()),
    timesteps: z.array(z.number()),
    snr: z.array(z.number()),
    uncondRatio: z.number(),
    cases: z.record(
      z.string(),
      z.object({
        loss: z.number(),
        perSample: z.array(z.number()),
        also: z.record(z.string(), z.number()),
        gradient: z.array(z.number()),
      }),
    ),
  })
  .parse(JSON.parse(readFileSync(new URL('../../test/fixtures/methods/methods.json', import.meta.url), 'utf8')));

const { shape } = fixture;
const count = shape.reduce((product, size) => product * size, 1);
const timesteps = Float64Array.from(fixture.timesteps);
const engine = await loadEngine();
const folder = mkdtempSync(join(tmpdir(), 'potstill-methods-'));
cpSync(new URL('../../test/fixtures/unet_sd15_tiny/config.json', import.meta.url), join(folder, 'unet', 'config.json'));
const { schedule } = await openModel(engine, folder);
rmSync(folder, { recursive: true });

/** The fixture's inputs: sin(0.7 i + seed). */
function wave(seed: number): Tensor {
  return Tensor.fromArray(
    engine,
    Float32Array.from({ length: count }, (_, i) => Math.sin(0.7 * i + seed)),
    shape,
  );
}

interface Case {
  readonly method: unknown;
  readonly kind?: PredictionKind;
  readonly weights?: Readonly<Record<string, number>>;
  readonly regularisers?: Regularisers;
  readonly loss?: unknown;
  readonly weighting?: unknown;
  readonly masks?: MaskOptions;
}

/** What a method makes of the fixture's tensors. */
type Found = (typeof fixture.cases)[string] & { readonly figures: Readonly<Record<string, number>> };

/** The loss of a method and its gradient at the student's prediction. */
function run({
  method: given,
  kind = 'epsilon',
  weights = { a: 1 },
  regularisers = { prior: 0, data: 0 },
  loss = { id: 'mse' },
  weighting = { id: 'none' },
  masks,
}: Case): Promise<Found> {
  return scope(async () => {
    const options = methodOptions.parse(given);
    const method = methodOf(options);
    const [latents, noise] = [wave(1), wave(2)];
    const prediction = wave(3).leaf();
    const teacher = {
      a: { cond: wave(4), uncond: wave(6), base: { cond: wave(8), uncond: wave(10) } },
      b: { cond: wave(5), uncond: wave(7), base: { cond: wave(9), uncond: wave(11) } },
    } as const;
    const epsilon = (tensor: Tensor): Prediction => ({ kind: 'epsilon', schedule, tensor });
    const noisy = schedule.addNoise(latents, noise, timesteps);
    const batch: Batch = {
      size: timesteps.length,
      latents,
      noise,
      timesteps,
      noisy,
      text: { encoderHiddenStates: wave(0) },
      // The fixture's mask: black, grey and white columns.
      mask:
        masks === undefined
          ? undefined
          : Tensor.fromArray(
              engine,
              Array.from({ length: count / 4 }, (_, i) => [0, 0.05, 0.5, 1][i % 4] ?? 0),
              [shape[0] ?? 0, 1, ...shape.slice(2)],
            ),
      unconditional: () => ({ encoderHiddenStates: wave(13) }),
      teachers: (['a', 'b'] as const)
        .filter((id) => weights[id] !== undefined)
        .map((id) => ({
          id,
          weight: weights[id] ?? 0,
          cond: epsilon(teacher[id].cond),
          uncond: epsilon(teacher[id].uncond),
          base: { cond: epsilon(teacher[id].base.cond), uncond: epsilon(teacher[id].base.uncond) },
        })),
      perRow: (values) => Tensor.fromArray(engine, Float32Array.from(values), [values.length, 1, 1, 1]),
    };
    const roles: { -readonly [Key in keyof Roles]: Roles[Key] } = {
      student: {
        predict: () => ({ kind, schedule, tensor: prediction }),
        truth: (known) => truth(kind, schedule, known),
      },
      prior: {
        predict: () => ({ kind, schedule, tensor: wave(12) }),
        truth: (known) => truth(kind, schedule, known),
      },
    };
    // Teachers that are asked: a little of x_t, and a wave that depends on the text.
    const asked = {
      predict: ({ noisy: at }: Point, { encoderHiddenStates: text }: TextConditioning) =>
        epsilon(at.scale(0.3).add(text)),
    };
    roles.teachers = new Map(['a', 'b'].map((id) => [id, asked]));
    const terms = method.step('student', batch, roles, stepRng(1, 0), { options, state: {} });
    const added = regularise(terms, batch, roles, regularisers, masks?.prior);
    const { total, perSample, also, figures } = evaluate(added, batch, {
      distance: lossOptions.parse(loss),
      weighting: weightingOptions.parse(weighting),
      masks: masks ?? { unmasked: 1, prior: 0, normalise: false },
      snr: (timestep) => fixture.snr[fixture.timesteps.indexOf(timestep)] ?? Number.NaN,
    });
    const [gradient] = gradients(total, [prediction]);
    const read = async (values: ReadonlyMap<string, Tensor>): Promise<Record<string, number>> =>
      Object.fromEntries(
        await Promise.all([...values].map(async ([name, value]) => [name, await value.item()] as const)),
      );
    return {
      loss: await total.item(),
      perSample: [...(await perSample.toArray())],
      also: await read(also),
      figures: await read(figures),
      gradient: [...((await gradient?.toArray()) ?? [])],
    };
  });
}

/** f32 arithmetic in another order than PyTorch's. */
const TOLERANCE = 2e-5;

function expectClose(found: readonly number[], expected: readonly number[]): void {
  expect(found).toHaveLength(expected.length);
  const scale = Math.max(...expected.map(Math.abs));
  for (const [index, value] of expected.entries()) {
    expect(Math.abs((found[index] ?? Number.NaN) - value)).toBeLessThanOrEqual(TOLERANCE * scale);
  }
}

describe('methods agree with PyTorch and diffusers', () => {
  const both = { a: 0.25, b: 0.75 };
  it.each<[string, Case]>([
    ['denoise, epsilon', { method: { id: 'denoise' }, weights: {} }],
    ['denoise, v', { method: { id: 'denoise' }, kind: 'v', weights: {} }],
    ['cfg, one teacher', { method: { id: 'cfg', guidance: 5 } }],
    ['cfg, rescaled', { method: { id: 'cfg', guidance: 7.5, rescale: 0.7 } }],
    ['cfg, two teachers', { method: { id: 'cfg', guidance: 5 }, weights: both }],
    ['cfg, v student', { method: { id: 'cfg', guidance: 5 }, kind: 'v' }],
    ['cfg, rollout', { method: { id: 'cfg', guidance: 5, rolloutSteps: 2, rolloutBlend: 0.75 } }],
    ['multi-teacher', { method: { id: 'multi-teacher' }, weights: both }],
    ['prior', { method: { id: 'prior' }, weights: {} }],
    ['delta, one teacher', { method: { id: 'delta', guidance: 3 } }],
    ['delta, exact', { method: { id: 'delta', guidance: 3, unconditional: 'exact' } }],
    ['delta, two teachers', { method: { id: 'delta', guidance: 3 }, weights: both }],
    ['delta, v student', { method: { id: 'delta', guidance: 3 }, kind: 'v' }],
    ['cfg, regularised', { method: { id: 'cfg', guidance: 5 }, regularisers: { prior: 0.5, data: 0.25 } }],
    ['masked', { method: { id: 'denoise' }, weights: {}, masks: { unmasked: 0.1, prior: 0, normalise: false } }],
    [
      'masked, normalised, prior outside',
      { method: { id: 'denoise' }, weights: {}, masks: { unmasked: 0.1, prior: 0.5, normalise: true } },
    ],
    ['huber', { method: { id: 'denoise' }, weights: {}, loss: { id: 'huber', delta: 0.5 } }],
    ['log-cosh', { method: { id: 'denoise' }, weights: {}, loss: { id: 'log-cosh' } }],
    ...(['pseudo-huber', 'smooth-l1'] as const).flatMap((id) =>
      ['constant', 'exponential', 'snr'].map((schedule): [string, Case] => [
        `${id}, ${schedule}`,
        { method: { id: 'denoise' }, weights: {}, loss: { id, c: 0.1, schedule } },
      ]),
    ),
    ...['min-snr', 'debiased'].flatMap((id) =>
      (['epsilon', 'v'] as const).map((kind): [string, Case] => [
        `${id}, ${kind}`,
        { method: { id: 'denoise' }, kind, weights: {}, weighting: { id } },
      ]),
    ),
  ])('%s', async (name, options) => {
    const expected = fixture.cases[name];
    if (expected === undefined) throw new Error(`the fixture lacks ${name}`);
    const found = await run(options);
    expectClose([found.loss], [expected.loss]);
    expectClose(found.perSample, expected.perSample);
    expectClose(Object.values(found.also), Object.values(expected.also));
    expect(Object.keys(found.also)).toEqual(Object.keys(expected.also));
    expectClose(found.gradient, expected.gradient);
  });
});

describe('delta', () => {
  it('logs how large the unconditional change is beside the conditional one, unless it is not cached', async () => {
    const measured = await run({ method: { id: 'delta', guidance: 3 }, weights: { a: 0.25, b: 0.75 } });
    expectClose([measured.figures['uncondRatio'] ?? Number.NaN], [fixture.uncondRatio]);
    expect((await run({ method: { id: 'delta', guidance: 3, unconditional: 'ignored' } })).figures).toEqual({});
  });

  it('asks for the unconditional predictions only where it reads them', () => {
    const needs = (unconditional: string): unknown => {
      const options = methodOptions.parse({ id: 'delta', guidance: 3, unconditional });
      return methodOf(options).needs(options).fields;
    };
    expect(needs('measured')).toEqual(['cond', 'uncond']);
    expect(needs('exact')).toEqual(['cond', 'uncond']);
    expect(needs('ignored')).toEqual(['cond']);
  });
});

describe('regularisers', () => {
  it('draw the guidance that remains towards 1', () => {
    expect(effectiveGuidance(5, { prior: 0, data: 0 })).toBe(5);
    expect(effectiveGuidance(7, { prior: 0, data: 1 })).toBe(4);
    expect(effectiveGuidance(5, { prior: 0.5, data: 0.5 })).toBe(3);
  });
});

describe('weights', () => {
  it('count nothing but noise as 1, and have no formula for what they were not made for', () => {
    expect(weightOf({ id: 'min-snr', gamma: 5 }, 'epsilon', 0)).toBe(1);
    expect(weightOf({ id: 'min-snr', gamma: 5 }, 'x0', 9)).toBe(5);
    expect(hasWeights({ id: 'debiased' }, 'x0')).toBe(false);
    expect(hasWeights({ id: 'min-snr', gamma: 5 }, 'flow')).toBe(false);
    expect(hasWeights({ id: 'none' }, 'flow')).toBe(true);
  });
});

describe('cfg', () => {
  it('draws guidance from a range: between the losses of its ends, and the same for the same step', async () => {
    const drawn = await run({ method: { id: 'cfg', guidance: [2, 8] } });
    const low = await run({ method: { id: 'cfg', guidance: 2 } });
    const high = await run({ method: { id: 'cfg', guidance: 8 } });
    expect(drawn.perSample).toEqual((await run({ method: { id: 'cfg', guidance: [2, 8] } })).perSample);
    expect(drawn.loss).toBeGreaterThan(low.loss);
    expect(drawn.loss).toBeLessThan(high.loss);
  });

  it('is the conditional prediction at guidance 1', async () => {
    const guided = await run({ method: { id: 'cfg', guidance: 1 } });
    const plain = await run({ method: { id: 'multi-teacher' } });
    expectClose(guided.gradient, plain.gradient);
  });

  it('refuses unknown options and a range the wrong way round', () => {
    expect(methodOptions.safeParse({ id: 'cfg', guidance: 5, scale: 1 }).success).toBe(false);
    expect(methodOptions.safeParse({ id: 'cfg', guidance: [8, 2] }).success).toBe(false);
    expect(methodOptions.safeParse({ id: 'cfg' }).success).toBe(false);
  });
});
