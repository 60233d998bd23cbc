import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { potstill } from '../../test/support/command-line.ts';
import { writeTinyModel } from '../../test/support/tiny-model.ts';
import { relativeError, UnetFixture } from '../../test/support/unet-fixture.ts';
import { encodePng, loadEngine, noise, readTensors, Tensor, writeTensors } from '../native/index.ts';

const engine = await loadEngine({ threads: 2 });
const sd15 = new UnetFixture('unet_sd15_tiny');
let folder = '';
let model = '';

const at = (name: string): string => join(folder, name);
const read = async (file: string, name: string): Promise<{ shape: readonly number[]; values: Float32Array }> => {
  const tensor = (await readTensors(engine, at(file), [name])).get(name) as Tensor;
  return { shape: tensor.shape, values: await tensor.toArray() };
};
const gaussian = (seed: bigint, shape: readonly number[]): Tensor =>
  noise(engine, { generator: 'torch', seeds: [seed], shape }).reshape(shape);

const fixture = (name: string): string => fileURLToPath(new URL(`../../test/fixtures/${name}`, import.meta.url));
const adapter = (name: string): string => fixture(`adapters/${name}`);
const SDXL_LORA = adapter('sdxl_kohya.safetensors');
const LOHA = adapter('sd15_loha.safetensors');

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'potstill-probe-'));
  model = at('tiny');
  await writeTinyModel(engine, model, 1);
  const unet = await sd15.unet(engine);
  await unet.saveFolder(join(at('sd15'), 'unet'), 'f32');
  unet.dispose();
  const { inputs, target } = sd15.inputs(engine, 'even');
  await writeTensors(at('in.safetensors'), {
    sample: inputs.sample,
    timestep: Tensor.fromArray(engine, [...inputs.timesteps], [inputs.timesteps.length]),
    encoder_hidden_states: inputs.encoderHiddenStates,
    target,
  });
  await writeTensors(at('noise.safetensors'), { latents: gaussian(9n, [1, 4, 8, 12]) });
});
afterAll(() => rm(folder, { recursive: true }));

describe('probe unet', () => {
  test('writes what diffusers computes: prediction, loss and a gradient for every parameter', async () => {
    const words = ['--model', at('sd15'), '--in', at('in.safetensors'), '--out', at('out.safetensors')];
    const { code, out } = await potstill('probe', 'unet', ...words, '--backward', '--json');
    expect(code).toBe(0);
    const { loss, gradients } = sd15.case('even');
    expect(JSON.parse(out)).toMatchObject({ out: at('out.safetensors'), loss: expect.closeTo(loss, 4) });
    const { values } = await read('out.safetensors', 'prediction');
    expect(relativeError(values, await sd15.tensor(engine, 'even.prediction'))).toBeLessThan(1e-4);
    const stored = await readTensors(engine, at('out.safetensors'));
    const names = [...stored.keys()].filter((name) => name.startsWith('grad.')).map((name) => name.slice(5));
    expect(names.sort()).toEqual(Object.keys(gradients).sort());
    expect(stored.get('loss')?.shape).toEqual([]);
    expect(stored.get('grad.conv_in.weight')?.shape.slice(1)).toEqual([4, 3, 3]);
  });

  test('with a LoRA on it, writes what peft computes: prediction, loss and the gradients of the LoRA alone', async () => {
    const words = ['--model', at('sd15'), '--in', at('in.safetensors'), '--out', at('adapted.safetensors')];
    const lora = ['--lora', `${adapter('sd15_lora_peft')}:1`];
    const { code, out, err } = await potstill('probe', 'unet', ...words, ...lora, '--backward', '--json');
    expect(code, err).toBe(0);
    const expected = await readTensors(engine, fixture('adapted/expected.safetensors'));
    const reference = async (name: string): Promise<Float32Array> => {
      const tensor = expected.get(`sd15.lora.${name}`);
      if (tensor === undefined) throw new RangeError(`there is no ${name}`);
      return tensor.toArray();
    };
    const { losses } = JSON.parse(await readFile(fixture('adapted/expected.json'), 'utf8')) as {
      losses: Record<string, number>;
    };
    expect(JSON.parse(out)).toMatchObject({ loss: expect.closeTo(losses['sd15.lora'] ?? 0, 4) });
    const found = await readTensors(engine, at('adapted.safetensors'));
    const names = [...found.keys()].filter((name) => name.startsWith('grad.')).sort();
    const wanted = [...expected.keys()].filter((name) => name.startsWith('sd15.lora.grad.'));
    expect(names).toEqual(wanted.map((name) => name.slice('sd15.lora.'.length)).sort());
    for (const name of ['prediction', ...names]) {
      const tolerance = name === 'prediction' ? 1e-4 : 1e-3;
      const values = (await found.get(name)?.toArray()) ?? new Float32Array();
      expect(relativeError(values, await reference(name)), name).toBeLessThan(tolerance);
    }
    // Laid into the weights it predicts the same.
    expect(await potstill('probe', 'unet', ...words, ...lora)).toMatchObject({ code: 0 });
    const { values } = await read('adapted.safetensors', 'prediction');
    expect(relativeError(values, await reference('prediction'))).toBeLessThan(1e-4);
  });

  test('in bf16 predicts nearly the same', async () => {
    const words = ['--model', at('sd15'), '--in', at('in.safetensors')];
    const found: Float32Array[] = [];
    for (const dtype of ['f32', 'bf16']) {
      const out = `${dtype}.safetensors`;
      expect(await potstill('probe', 'unet', ...words, '--dtype', dtype, '--out', at(out))).toMatchObject({ code: 0 });
      found.push((await read(out, 'prediction')).values);
    }
    const [exact = new Float32Array(), rounded = new Float32Array()] = found;
    expect(relativeError(rounded, exact)).toBeGreaterThan(1e-5);
    expect(relativeError(rounded, exact)).toBeLessThan(0.05);
  });

  test.each([
    ['a tensor that is missing', ['--in', 'noise.safetensors'], 'there is no tensor "sample"'],
    ['a file that is missing', ['--in', 'nowhere.safetensors'], 'nowhere.safetensors'],
    ['inputs for another model', ['--in', 'in.safetensors', '--model', 'tiny'], 'encoder_hidden_states has shape'],
    ['a folder that is no model', ['--in', 'in.safetensors', '--model', '.'], 'has no unet/config.json'],
    ['a folder that is missing', ['--in', 'in.safetensors', '--model', 'nowhere'], 'no such file or folder'],
    ['a file that is no model', ['--in', 'in.safetensors', '--model', 'in.safetensors'], 'none of which belongs'],
    ['an adapter that is missing', ['--in', 'in.safetensors', '--lora', 'nowhere:1'], 'there is no adapter'],
    ['an adapter for another model', ['--in', 'in.safetensors', '--lora', SDXL_LORA], 'do not fit'],
    ['gradients of what is no LoRA', ['--in', 'in.safetensors', '--backward', '--lora', LOHA], 'a LoRA alone'],
    ['codes in bf16', ['--in', 'in.safetensors', '--quantize', 'nf4', '--dtype', 'bf16'], 'are decoded to f32'],
    ['gradients of codes', ['--in', 'in.safetensors', '--quantize', 'nf4', '--backward'], 'cannot be trained'],
    ['f16', ['--in', 'in.safetensors', '--dtype', 'f16'], 'f32, bf16'],
    ['gradients of bf16', ['--in', 'in.safetensors', '--dtype', 'bf16', '--backward'], 'Give a --lora'],
    ['what is no device', ['--in', 'in.safetensors', '--device', 'gpu'], 'auto, cpu, cuda, or cuda:1'],
  ])('refuses %s by name, exits with 2 and writes nothing', async (_, options, message) => {
    const words = options.map((word, i) => (['--in', '--model'].includes(options[i - 1] ?? '') ? at(word) : word));
    const model = words.includes('--model') ? [] : ['--model', at('sd15')];
    const { code, err } = await potstill('probe', 'unet', ...model, ...words, '--out', at('none.safetensors'));
    expect(err).toContain(message);
    expect(code).toBe(2);
    expect(existsSync(at('none.safetensors'))).toBe(false);
  });

  test('a truncated or hostile file is refused with its name', async () => {
    const whole = await readFile(at('in.safetensors'));
    const claims = Buffer.alloc(16);
    claims.writeBigUInt64LE(2n ** 60n);
    for (const [name, bytes] of [
      ['truncated', whole.subarray(0, whole.length - 10)],
      ['hostile', claims],
      ['empty', Buffer.alloc(0)],
    ] as const) {
      await writeFile(at(name), bytes);
      const words = ['--model', at('sd15'), '--in', at(name), '--out', at('none.safetensors')];
      const { code, err } = await potstill('probe', 'unet', ...words);
      expect(err).toContain(at(name));
      expect(code, name).toBe(2);
    }
  });
});

test('probe text writes token ids and encoded prompts', async () => {
  await writeFile(at('prompts.json'), '["a red apple", ""]');
  const words = ['--model', model, '--prompts', at('prompts.json'), '--out', at('text.safetensors')];
  expect(await potstill('probe', 'text', ...words)).toMatchObject({ code: 0 });
  expect((await read('text.safetensors', 'encoder_hidden_states')).shape).toEqual([2, 77, 32]);
  const { shape, values } = await read('text.safetensors', 'token_ids');
  expect(shape).toEqual([2, 77]);
  expect(values[77 + 1]).toBe(values[76]); // an empty prompt is its end, repeated
  await writeFile(at('prompts.json'), JSON.stringify([`(${'a red apple '.repeat(40)}:1.2)`]));
  expect(await potstill('probe', 'text', ...words, '--prompt-syntax', 'weighted')).toMatchObject({ code: 0 });
  expect((await read('text.safetensors', 'encoder_hidden_states')).shape).toEqual([1, 154, 32]);
  expect((await read('text.safetensors', 'token_ids')).shape).toEqual([2, 77]);
  await writeFile(at('prompts.json'), '"a red apple"');
  expect(await potstill('probe', 'text', ...words)).toMatchObject({ code: 2 });
});

test('probe vae encodes pictures and decodes latents, and refuses sides that are no multiples of 8', async () => {
  const picture = async (name: string, height: number): Promise<void> =>
    writeFile(at(name), await encodePng(gaussian(4n, [1, 3, height, 24])));
  await picture('good.png', 16);
  await picture('odd.png', 17);
  const encode = (name: string): string[] => ['--encode', at(name), '--out', at('latents.safetensors')];
  expect(await potstill('probe', 'vae', '--model', model, ...encode('good.png'))).toMatchObject({ code: 0 });
  expect((await read('latents.safetensors', 'latents')).shape).toEqual([1, 4, 2, 3]);
  const decode = ['--decode', at('latents.safetensors'), '--out', at('decoded.safetensors')];
  expect(await potstill('probe', 'vae', '--model', model, ...decode)).toMatchObject({ code: 0 });
  expect((await read('decoded.safetensors', 'decoded')).shape).toEqual([1, 3, 16, 24]);

  // Another VAE in place of the model's, named as a model or by itself.
  await writeTinyModel(engine, at('other'), 9);
  const latents = async (...vae: string[]): Promise<string> => {
    expect(await potstill('probe', 'vae', '--model', model, ...vae, ...encode('good.png'))).toMatchObject({ code: 0 });
    return (await read('latents.safetensors', 'latents')).values.join();
  };
  const [own, named, alone] = [
    await latents(),
    await latents('--vae', at('other')),
    await latents('--vae', at('other/vae/diffusion_pytorch_model.safetensors')),
  ];
  expect(named).not.toBe(own);
  expect(alone).toBe(named);

  const refused = await potstill('probe', 'vae', '--model', model, ...encode('odd.png'));
  expect(refused).toMatchObject({ code: 2, err: expect.stringContaining(at('odd.png')) });
  expect(await potstill('probe', 'vae', '--model', model, '--out', at('x'))).toMatchObject({ code: 2 });
});

test('probe noise gives the bits of torch, in the shape asked for', async () => {
  const words = (shape: string): string[] => ['--seed', '0', '--shape', shape, '--generator', 'torch'];
  expect(await potstill('probe', 'noise', ...words('4'), '--out', at('randn.safetensors'))).toMatchObject({ code: 0 });
  const { shape, values } = await read('randn.safetensors', 'noise');
  expect(shape).toEqual([4]);
  expect([...values]).toEqual([1.5409961, -0.2934289, -2.1787894, 0.56843126].map(Math.fround));
  for (const bad of ['0', '4,-1', '4,x', '99999,99999,99']) {
    expect(await potstill('probe', 'noise', ...words(bad), '--out', at('x'))).toMatchObject({ code: 2 });
  }
  expect(await potstill('probe', 'noise', '--seed', '-1', '--shape', '4', '--out', at('x'))).toMatchObject({ code: 2 });
});

describe('probe sample', () => {
  const sample = (...more: string[]): ReturnType<typeof potstill> =>
    potstill(
      ...['probe', 'sample', '--model', model, '--prompt', 'a red apple', '--latents', at('noise.safetensors')],
      ...['--steps', '3', '--guidance', '4', '--out', at('sampled.safetensors'), ...more],
    );

  test.each(['ddpm', 'ddim', 'euler', 'euler-a', 'dpmpp-2m', 'lcm', 'tcd', 'flow-euler'])(
    'steps noise to latents of its shape: %s',
    async (sampler) => {
      expect(await sample('--sampler', sampler)).toMatchObject({ code: 0 });
      const first = await read('sampled.safetensors', 'latents');
      expect(first.shape).toEqual([1, 4, 8, 12]);
      expect(first.values.every(Number.isFinite)).toBe(true);
      await sample('--sampler', sampler);
      expect((await read('sampled.safetensors', 'latents')).values).toEqual(first.values);
      await sample('--sampler', sampler, '--uncond', 'zeros');
      expect((await read('sampled.safetensors', 'latents')).values).not.toEqual(first.values);
    },
  );

  test('takes the fresh noise that a file gives, for all rows or for each', async () => {
    const stored = { latents: gaussian(9n, [2, 4, 8, 12]) };
    const one = gaussian(10n, [3, 4, 8, 12]);
    const final = async (name: string, tensors: Readonly<Record<string, Tensor>>): Promise<Float32Array> => {
      await writeTensors(at(name), tensors);
      const found = await sample('--sampler', 'euler-a', '--latents', at(name));
      expect(found).toMatchObject({ code: 0 });
      return (await read('sampled.safetensors', 'latents')).values;
    };
    const shared = await final('shared.safetensors', { ...stored, step_noise: one });
    const both = one.reshape([3, 1, 4, 8, 12]).broadcast([3, 2, 4, 8, 12]);
    expect(await final('each.safetensors', { ...stored, step_noise: both })).toEqual(shared);
    expect(await final('other.safetensors', { ...stored, step_noise: one.scale(2) })).not.toEqual(shared);
    await writeTensors(at('short.safetensors'), { ...stored, step_noise: one.slice(0, 0, 2) });
    const refused = await sample('--sampler', 'euler-a', '--latents', at('short.safetensors'));
    expect(refused).toMatchObject({ code: 2, err: expect.stringContaining('step_noise has the shape [2, 4, 8, 12]') });
  });

  test.each([
    [['--sampler', 'tcd', '--spacing', 'leading'], 'is not a choice of tcd'],
    [['--sampler', 'heun'], 'Allowed choices are'],
    [['--karras'], 'euler and dpmpp-2m take them'],
    [['--embeddings', '.'], 'weighted prompts only'],
    [['--steps', '0'], 'whole number'],
    [['--steps', '2000'], 'steps 2000'],
    [['--uncond', 'zeros', '--negative', 'a dog'], '--uncond'],
  ])('refuses %s', async (words, message) => {
    expect(await sample(...words)).toMatchObject({ code: 2, err: expect.stringContaining(message) });
  });
});
