import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { drawWith, LEVEL, pictureDistance, SAMPLE_FILE, SAMPLING } from '../../test/support/drawn.ts';
import { interruptAt } from '../../test/support/interrupt.ts';
import { decodeSafetensors, encodeSafetensors, viewSafetensors } from '../../test/support/safetensors.ts';
import { writeTinyImages } from '../../test/support/tiny-data.ts';
import { writeTinyModel } from '../../test/support/tiny-model.ts';
import { writeTinySdxl } from '../../test/support/tiny-sdxl.ts';
import { resolveValue, trainQuietly } from '../../test/support/training.ts';
import { inspectAdapter } from '../adapter/index.ts';
import { type Engine, Lora, loadEngine, noise, openModel, scope, Tensor, TextEncoder, Unet } from '../native/index.ts';
import { silentProgress } from '../progress.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { stepName } from './checkpoints.ts';
import { readMetrics } from './metrics.ts';
import { TrainedRole } from './roles.ts';
import { validate } from './validate.ts';

const TIMEOUT_MS = 120_000;
const folder = mkdtempSync(join(tmpdir(), 'potstill-text-lora-'));
const at = (...names: string[]): string => join(folder, ...names);
const KINDS = ['sd15', 'sdxl'] as const;

beforeAll(async () => {
  const engine = await loadEngine();
  await writeTinyModel(engine, at('sd15'), 1);
  await writeTinySdxl(engine, at('sdxl'), 2);
  await writeTinyImages(engine, at('images'), 6);
}, TIMEOUT_MS);
afterAll(() => rmSync(folder, { recursive: true }));

function recipe(output: string, model: string, changes: Record<string, unknown> = {}): ResolvedRecipe {
  const { training, text, ...others } = changes;
  const lora = { rank: 2, targets: 'attention', text: { rank: 3, alpha: 6, ...(text ?? {}) } };
  const value = {
    version: 1,
    name: output,
    output,
    seed: 3,
    student: { model, train: { lora } },
    data: [{ images: 'images', captionDropout: 0.2 }],
    cache: { dir: `cache-${model}` },
    method: { id: 'denoise' },
    ...others,
    training: { steps: 6, batch: 2, optimizer: { lr: 1e-2 }, save: { dtype: 'f32' }, ...(training ?? {}) },
  };
  return resolveValue(at('recipe.json'), value);
}

/** Half of the step of the differences: far above the rounding of an f32 loss. What it curves in between is taken out. */
const STEP = 1.5e-3;
/** Of f32 gradients by differences. */
const TOLERANCE = 0.02;

/** The mean square of a prediction of two captions, and a role that sends its gradient back. */
function lossOf(engine: Engine, role: TrainedRole): Tensor {
  const shape = [4, 8, 8];
  const noisy = noise(engine, { generator: 'philox', seeds: [1n, 2n], shape });
  const timeIds = Tensor.fromArray(engine, new Float32Array(12).fill(64), [2, 6]);
  const prompts = ['a red picture', 'a white one'];
  const cached = { encoderHiddenStates: noisy, timeIds, prompts };
  const { tensor } = role.predict({ noisy, timesteps: Float64Array.of(100, 700) }, cached);
  return tensor.square().mean();
}

describe('a LoRA on text encoders', () => {
  it.each(KINDS)('has the gradients that differences of the loss say: %s', { timeout: TIMEOUT_MS }, async (kind) => {
    const engine = await loadEngine();
    const { prediction, schedule } = await openModel(engine, at(kind));
    using unet = await Unet.open(engine, at(kind, 'unet'));
    using text = await TextEncoder.open(engine, at(kind));
    const settings = { rank: 2, alpha: 4, targets: ['transformers'], seed: 5n };
    using lora = await Lora.createOnText(text, unet, settings);
    const file = at(`${kind}-factors.safetensors`);
    await lora.saveWeights(file);
    const start = decodeSafetensors(readFileSync(file));
    for (const [name, { values }] of start) {
      if (!name.endsWith('lora_B.weight')) continue;
      for (const index of values.keys()) values[index] = 0.3 * Math.sin(index + 1);
    }
    lora.setTrainable(true);
    const parameters = await lora.parameters();
    expect(parameters.some(({ name }) => name.startsWith('text_encoder.text_model.encoder.layers.0.'))).toBe(true);
    expect(parameters.some(({ name }) => name.startsWith('text_encoder_2.'))).toBe(kind === 'sdxl');
    const network = { unet, prediction, schedule, text };
    /** The loss with one value of one parameter moved; its gradients are gathered where they are asked for. */
    const loss = async (name?: string, index = 0, by = 0, gather = false): Promise<number> => {
      const moved = new Map(
        [...start].map(([key, { shape, values }]) => [key, { shape, values: Float32Array.from(values) }] as const),
      );
      const { values } = moved.get(name ?? '') ?? { values: new Float32Array(1) };
      values[index] = (values[index] ?? 0) + by;
      writeFileSync(file, encodeSafetensors(moved));
      await lora.loadWeights(file);
      return scope(async () => {
        const role = new TrainedRole(network, false);
        const value = lossOf(engine, role);
        if (gather) role.backward(value);
        return value.item();
      });
    };
    await loss(undefined, 0, 0, true);
    const layers = kind === 'sdxl' ? ['text_encoder', 'text_encoder_2'] : ['text_encoder'];
    for (const [layer, factor] of layers.flatMap((encoder) => [
      [`${encoder}.text_model.encoder.layers.0.self_attn.v_proj`, 'lora_A'],
      [`${encoder}.text_model.encoder.layers.0.mlp.fc1`, 'lora_B'],
    ])) {
      const name = `${layer}.${factor}.weight`;
      const found = parameters.filter((parameter) => parameter.name === name);
      const gradient = await scope(() => (unet.gradients(found)[0] as Tensor).toArray());
      const largest = gradient.reduce(
        (best, value, i) => (Math.abs(value) > Math.abs(gradient[best] ?? 0) ? i : best),
        0,
      );
      const difference = async (by: number): Promise<number> =>
        ((await loss(name, largest, by)) - (await loss(name, largest, -by))) / (2 * by);
      // Richardson's: exact but for the fifth derivative.
      const slope = (4 * (await difference(STEP))) / 3 - (await difference(2 * STEP)) / 3;
      expect(Math.abs(slope / (gradient[largest] ?? 0) - 1), `${name}[${largest}]`).toBeLessThan(TOLERANCE);
    }
    schedule.dispose();
  });

  it.each(KINDS)(
    'is trained beside the UNet, in one file, and drawn with as it was in training: %s',
    { timeout: TIMEOUT_MS },
    async (kind) => {
      const output = `trained-${kind}`;
      const training = { steps: 8, validation: { every: 8, fraction: 0.3, samples: 2, draws: 2 }, ema: { decay: 0.5 } };
      const { student, validation } = await trainQuietly(recipe(output, kind, { sampling: SAMPLING, training }));
      expect(validation?.loss).toBeGreaterThan(0);
      const { modules } = await inspectAdapter(student, at(kind));
      const norms = (component: string) => modules.filter(({ name }) => name.startsWith(`${component}.`));
      const encoders = kind === 'sdxl' ? ['text_encoder', 'text_encoder_2'] : ['text_encoder'];
      for (const component of encoders) {
        expect(norms(component).length, component).toBeGreaterThan(0);
        expect(
          norms(component).some(({ norm }) => norm > 0),
          component,
        ).toBe(true);
        expect(norms(component).every(({ rank, alpha }) => rank === 3 && alpha === 6)).toBe(true);
      }
      expect(norms('unet').every(({ rank }) => rank === 2)).toBe(true);
      const names = [...viewSafetensors(readFileSync(student)).keys()];
      for (const prefix of kind === 'sdxl' ? ['lora_te1_', 'lora_te2_'] : ['lora_te_']) {
        expect(
          names.some((name) => name.startsWith(prefix)),
          prefix,
        ).toBe(true);
      }
      const farthest = async (to: string, ...more: string[]): Promise<number> =>
        pictureDistance(
          await drawWith(at(kind), at(`${output}-pictures`, to), ...more),
          at(output, 'samples', stepName(8), SAMPLE_FILE),
        );
      expect(await farthest('with', '--lora', student)).toBeLessThan(1.01 * LEVEL);
      const unetAlone = at(`${output}-unet.safetensors`);
      const own = [...decodeSafetensors(readFileSync(student))].filter(([name]) => name.startsWith('lora_unet_'));
      writeFileSync(unetAlone, encodeSafetensors(new Map(own)));
      expect(await farthest('unet-alone', '--lora', unetAlone)).toBeGreaterThan(1.01 * LEVEL);
    },
  );

  it('goes on after an interruption with the same bits', { timeout: TIMEOUT_MS }, async () => {
    await trainQuietly(recipe('whole', 'sd15'));
    const parts = recipe('parts', 'sd15');
    await expect(trainQuietly(parts, interruptAt(3))).rejects.toMatchObject({ code: 'ERR_INTERRUPTED' });
    await trainQuietly(parts, { resume: true });
    for (const file of ['student', 'text', 'optimizer'].map((name) => `${name}.safetensors`)) {
      const [one, other] = ['whole', 'parts'].map((name) => readFileSync(at(name, 'checkpoints', stepName(6), file)));
      expect(one?.equals(other ?? Buffer.of()), file).toBe(true);
    }
    expect((await readMetrics(at('parts', 'metrics.jsonl'))).map(({ loss }) => loss)).toEqual(
      (await readMetrics(at('whole', 'metrics.jsonl'))).map(({ loss }) => loss),
    );
  });

  it.each(KINDS)(
    'is gone on with from its file, and measured with its text: %s',
    { timeout: TIMEOUT_MS },
    async (kind) => {
      const training = { validation: { every: 6, fraction: 0.3, samples: 2, draws: 2 } };
      const first = recipe(`first-${kind}`, kind, { training });
      const { student: file, validation } = await trainQuietly(first);
      const measure = async (student: string): Promise<number> =>
        (await validate(first, { student, progress: silentProgress, signal: new AbortController().signal })).loss;
      expect(await measure(file)).toBeCloseTo(validation?.loss ?? 0, 5);
      const unetAlone = at(`first-${kind}-unet.safetensors`);
      const all = [...decodeSafetensors(readFileSync(file))];
      writeFileSync(unetAlone, encodeSafetensors(new Map(all.filter(([name]) => name.startsWith('lora_unet_')))));
      expect(Math.abs((await measure(unetAlone)) - (validation?.loss ?? 0))).toBeGreaterThan(1e-5);

      const onWith = (output: string, rates: readonly object[] = []): ResolvedRecipe =>
        recipe(`${output}-${kind}`, kind, {
          student: { model: kind, train: { lora: file } },
          training: { optimizer: { lr: 1e-2, rates }, checkpoint: { every: 3 } },
        });
      const second = onWith('second');
      const { student: trained } = await trainQuietly(second);
      const text = (from: string) =>
        [...decodeSafetensors(readFileSync(from))].filter(([name]) => name.startsWith('lora_te'));
      expect(text(trained).map(([name, { shape }]) => [name, shape])).toEqual(
        text(file).map(([name, { shape }]) => [name, shape]),
      );
      expect(text(trained)).not.toEqual(text(file));
      const held = await trainQuietly(onWith('held', [{ layers: 'text_encoder*', factor: 0 }]));
      expect(text(held.student)).toEqual(text(file));
      // The first loss of it is with the text as the file has it, not as the cache does.
      const first0 = async (output: string) => (await readMetrics(at(`${output}-${kind}`, 'metrics.jsonl')))[0]?.loss;
      const blind = {
        ...second,
        output: at(`blind-${kind}`),
        student: { model: at(kind), train: { lora: unetAlone } },
      };
      await trainQuietly(blind);
      expect(await first0('held')).toBe(await first0('second'));
      expect(await first0('blind')).not.toBe(await first0('second'));

      const parts = onWith('second-parts');
      await expect(trainQuietly(parts, interruptAt(3))).rejects.toMatchObject({ code: 'ERR_INTERRUPTED' });
      const again = await trainQuietly(parts, { resume: true });
      expect(text(again.student)).toEqual(text(trained));
    },
  );

  it('stays as it is at a rate of 0, and is refused where nothing fits', { timeout: TIMEOUT_MS }, async () => {
    const { student } = await trainQuietly(recipe('still', 'sd15', { text: { rate: 0 } }));
    const { modules } = await inspectAdapter(student, at('sd15'));
    for (const { name, norm } of modules) expect(norm > 0, name).toBe(name.startsWith('unet.'));
    await expect(
      trainQuietly(recipe('nothing', 'sd15', { text: { targets: 'text_encoder_2.*' } })),
    ).rejects.toMatchObject({
      code: 'ERR_ADAPTER_INPUT',
      what: expect.stringContaining('fits no layer'),
    });
    expect(() =>
      recipe('prodigy', 'sd15', { text: { rate: 0.5 }, training: { optimizer: { id: 'prodigy' } } }),
    ).toThrow(/Prodigy finds one step size/);
  });
});
