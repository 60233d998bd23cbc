import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { gradients, loadEngine, openModel, type PredictionKind, scope, Tensor } from '../native/index.ts';
import type { Batch, Roles } from './define.ts';
import { methodOf, methodOptions } from './index.ts';
import { evaluate } from './loss.ts';
import { truth } from './prediction.ts';
import { stepRng } from './rng.ts';

/** Losses and gradients by PyTorch and diffusers: test/fixtures/make_methods.py. */
const fixture = z
  .object({
    shape: z.array(z.int()),
    timesteps: z.array(z.number()),
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
}

/** The loss of a method and its gradient at the student's prediction. */
function run({ method: given, kind = 'epsilon', weights = { a: 1 } }: Case): Promise<(typeof fixture.cases)[string]> {
  return scope(async () => {
    const options = methodOptions.parse(given);
    const method = methodOf(options);
    const [latents, noise] = [wave(1), wave(2)];
    const prediction = wave(3).leaf();
    const teacher = { a: [wave(4), wave(6)], b: [wave(5), wave(7)] } as const;
    const noisy = schedule.addNoise(latents, noise, timesteps);
    const batch: Batch = {
      size: timesteps.length,
      latents,
      noise,
      timesteps,
      noisy,
      text: { encoderHiddenStates: wave(0) },
      teachers: (['a', 'b'] as const)
        .filter((id) => weights[id] !== undefined)
        .map((id) => ({
          id,
          weight: weights[id] ?? 0,
          cond: { kind: 'epsilon', schedule, tensor: teacher[id][0] },
          uncond: { kind: 'epsilon', schedule, tensor: teacher[id][1] },
        })),
      perRow: (values) => Tensor.fromArray(engine, Float32Array.from(values), [values.length, 1, 1, 1]),
    };
    const roles: Roles = {
      student: {
        predict: () => ({ kind, schedule, tensor: prediction }),
        truth: (known) => truth(kind, schedule, known),
      },
    };
    const terms = method.step('student', batch, roles, stepRng(1, 0), { options, state: {} });
    const { total, perSample, also } = evaluate(terms, batch, { id: 'mse' });
    const [gradient] = gradients(total, [prediction]);
    const others = [...also].map(async ([name, loss]) => [name, await loss.item()] as const);
    return {
      loss: await total.item(),
      perSample: [...(await perSample.toArray())],
      also: Object.fromEntries(await Promise.all(others)),
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
    ['multi-teacher', { method: { id: 'multi-teacher' }, weights: both }],
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
