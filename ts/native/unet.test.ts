import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { relativeError, UnetFixture } from '../../test/support/unet-fixture.ts';
import {
  createOptimizer,
  Ema,
  gradients,
  inspectTensors,
  loadEngine,
  type Optimizer,
  scope,
  type Tensor,
  Unet,
} from './index.ts';

/** torch's defaults. */
const ADAMW = { id: 'adamw', betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0.01 } as const;
const engine = await loadEngine({ threads: 2 });
const sd15 = new UnetFixture('unet_sd15_tiny');
let unet: Unet;
let folder = '';

beforeAll(async () => {
  unet = await sd15.unet(engine);
  folder = await mkdtemp(join(tmpdir(), 'potstill-unet-'));
});
afterAll(async () => {
  unet.dispose();
  await rm(folder, { recursive: true });
});

/** Loss and gradients of a case of the fixture, in the unet's parameters. */
async function backward(name: string, options: { recompute?: boolean; scale?: number } = {}): Promise<number> {
  return scope(async () => {
    const { inputs, target } = sd15.inputs(engine, name);
    const { outputs, tape } = unet.forward(inputs, { grad: true, recompute: options.recompute ?? false });
    const loss = outputs.prediction
      .sub(target)
      .square()
      .mean()
      .scale(options.scale ?? 1);
    const [gradient] = gradients(loss, [outputs.prediction]) as [Tensor];
    tape.backward({ prediction: gradient });
    return loss.item();
  });
}

async function gradientOf(name: string): Promise<Float32Array> {
  const parameters = (await unet.parameters()).filter((parameter) => parameter.name === name);
  return scope(async () => (unet.gradients(parameters)[0] as Tensor).toArray());
}

const norm = (values: Float32Array): number => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));

test('the weights are those of the reference', async () => {
  expect(await unet.digest()).toBe(sd15.expected.weights.sha256);
});

test.each(['even', 'odd'])('predicts what diffusers predicts: %s', async (name) => {
  const { prediction } = unet.forward(sd15.inputs(engine, name).inputs).outputs;
  const expected = await sd15.tensor(engine, `${name}.prediction`);
  expect(relativeError(await prediction.toArray(), expected)).toBeLessThan(1e-4);
});

test('SDXL with its added conditioning too', async () => {
  const sdxl = new UnetFixture('unet_sdxl_tiny');
  using network = await sdxl.unet(engine);
  expect(await network.digest()).toBe(sdxl.expected.weights.sha256);
  const { prediction } = network.forward(sdxl.inputs(engine, 'even').inputs).outputs;
  expect(relativeError(await prediction.toArray(), await sdxl.tensor(engine, 'even.prediction'))).toBeLessThan(1e-4);
});

test("loss and every parameter's gradient are the reference's, recomputed or not", async () => {
  unet.setTrainable('all');
  const optimizer = createOptimizer(unet, ADAMW);
  const { loss, gradients: expected } = sd15.case('even');
  expect(await backward('even')).toBeCloseTo(loss, 5);
  const parameters = await unet.parameters();
  expect(parameters).toHaveLength(Object.keys(expected).length);
  const norms = Object.values(expected).map((one) => one.norm);
  const floor = 1e-3 * (norms.sort((a, b) => a - b)[norms.length >> 1] ?? 0);
  const kept = new Map<string, Float32Array>();
  for (const [index, tensor] of unet.gradients(parameters).entries()) {
    const name = parameters[index]?.name ?? '';
    const values = await tensor.toArray();
    tensor.dispose();
    kept.set(name, values);
    const wanted = expected[name]?.norm ?? Number.NaN;
    expect(Math.abs(norm(values) - wanted) / Math.max(wanted, floor), name).toBeLessThan(1e-3);
  }
  optimizer.zeroGrad();
  await backward('even', { recompute: true });
  for (const name of ['conv_in.weight', 'mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight']) {
    expect(await gradientOf(name)).toEqual(kept.get(name));
  }
  optimizer.zeroGrad();
  optimizer.dispose();
});

test('gradients of several tapes add up, and only what is trained has one', async () => {
  unet.setTrainable(['conv_out.bias']);
  const optimizer = createOptimizer(unet, ADAMW);
  await backward('even');
  const once = await gradientOf('conv_out.bias');
  await backward('even', { scale: 0.5 });
  expect(
    relativeError(
      await gradientOf('conv_out.bias'),
      once.map((value) => 1.5 * value),
    ),
  ).toBeLessThan(1e-5);
  await expect(gradientOf('conv_in.weight')).rejects.toMatchObject({ code: 'ERR_GRADIENT_GRAPH' });
  const before = await scope(() => optimizer.clip(1e-3).item());
  expect(before).toBeCloseTo(norm(once) * 1.5, 4);
  expect(norm(await gradientOf('conv_out.bias'))).toBeCloseTo(1e-3, 6);
  optimizer.zeroGrad();
  optimizer.dispose();
});

test("an input's gradient is given when it is asked for, and never lost silently", async () => {
  unet.setTrainable('none');
  const { inputs, target } = sd15.inputs(engine, 'even');
  const { outputs, tape } = unet.forward(inputs, { grad: true, inputGradients: ['sample', 'encoderHiddenStates'] });
  const loss = outputs.prediction.sub(target).square().mean();
  const [gradient] = gradients(loss, [outputs.prediction]) as [Tensor];
  const found = tape.backward({ prediction: gradient });
  expect(found.sample.shape).toEqual(inputs.sample.shape);
  for (const [name, tensor] of [
    ['sample', found.sample],
    ['encoder_hidden_states', found.encoderHiddenStates],
  ] as const) {
    const expected = await sd15.tensor(engine, `even.grad.${name}`);
    expect(relativeError(await tensor.toArray(), expected), name).toBeLessThan(1e-3);
  }
  const tracked = unet.forward({ ...inputs, sample: inputs.sample.leaf().scale(2) }, { grad: true });
  await expect(tracked.outputs.prediction.toArray()).rejects.toMatchObject({ what: expect.stringContaining('sample') });
});

test('a training goes on to the bit after a checkpoint', async () => {
  using student = await sd15.unet(engine);
  using other = await sd15.unet(engine);
  const step = async (network: Unet, optimizer: Optimizer, ema: Ema): Promise<void> =>
    scope(async () => {
      const { inputs, target } = sd15.inputs(engine, 'fractional');
      const { outputs, tape } = network.forward(inputs, { grad: true });
      const loss = outputs.prediction.sub(target).square().mean();
      tape.backward({ prediction: gradients(loss, [outputs.prediction])[0] as Tensor });
      optimizer.clip(1);
      optimizer.step(1e-3);
      optimizer.zeroGrad();
      ema.update();
      await engine.settled();
    });
  const parts = [student, other].map((network) => {
    network.setTrainable('all');
    return { network, optimizer: createOptimizer(network, ADAMW), ema: Ema.create(network, { decay: 0.9 }) };
  }) as [Parts, Parts];
  const [first, second] = parts;
  await step(first.network, first.optimizer, first.ema);
  const file = (name: string): string => join(folder, `${name}.safetensors`);
  await first.network.saveWeights(file('student'));
  await first.optimizer.save(file('optimizer'));
  await first.ema.save(file('ema'));
  await step(first.network, first.optimizer, first.ema);

  await second.network.loadWeights(file('student'));
  await second.optimizer.load(file('optimizer'));
  await second.ema.load(file('ema'));
  await step(second.network, second.optimizer, second.ema);
  expect(await second.network.digest()).toBe(await first.network.digest());
  expect(await second.network.digest()).not.toBe(sd15.expected.weights.sha256);

  const trained = await first.network.digest();
  first.ema.swap();
  const averaged = await first.network.digest();
  second.ema.swap();
  expect(await second.network.digest()).toBe(averaged);
  expect(averaged).not.toBe(trained);
  first.ema.swap();
  expect(await first.network.digest()).toBe(trained);

  // Files have diffusers' shapes.
  const stored = (await inspectTensors(file('optimizer'))).tensors.find(
    ({ name }) => name === 'exp_avg.conv_in.weight',
  );
  expect(stored?.shape.slice(1)).toEqual([4, 3, 3]);
});

interface Parts {
  readonly network: Unet;
  readonly optimizer: Optimizer;
  readonly ema: Ema;
}

test('saves a folder that loads again', async () => {
  const saved = join(folder, 'unet');
  await unet.saveFolder(saved, 'f32');
  expect((await readdir(saved)).sort()).toEqual(['config.json', 'diffusion_pytorch_model.safetensors']);
  using loaded = await Unet.open(engine, saved);
  expect(await loaded.digest()).toBe(await unet.digest());
  await writeFile(join(saved, 'diffusion_pytorch_model.safetensors'), 'not a safetensors file');
  await expect(Unet.open(engine, saved)).rejects.toMatchObject({
    kind: 'input',
    where: expect.stringContaining(saved),
  });
  await expect(Unet.open(engine, join(folder, 'nowhere'))).rejects.toMatchObject({ kind: 'input' });
});

test('inputs that do not fit surface at the read, by the name of the input', async () => {
  const { inputs } = sd15.inputs(engine, 'even');
  const { prediction } = unet.forward({ ...inputs, sample: inputs.sample.slice(1, 0, 3) }).outputs;
  const later = prediction.square().mean();
  await expect(later.item()).rejects.toMatchObject({
    code: 'ERR_MODEL_INPUT',
    where: 'unet.forward',
    what: expect.stringContaining('sample has 3 channels'),
  });
});

test('after a failed tape no step is taken, and the failure surfaces at the next read', async () => {
  unet.setTrainable(['conv_out.bias']);
  const optimizer = createOptimizer(unet, ADAMW);
  const digest = await unet.digest();
  const { inputs, target } = sd15.inputs(engine, 'even');
  const { tape } = unet.forward(inputs, { grad: true });
  tape.backward({ prediction: target.slice(0, 0, 1) });
  optimizer.step(1);
  await expect(engine.settled()).rejects.toMatchObject({ code: 'ERR_TENSOR_SHAPE', where: 'backward' });
  expect(await unet.digest()).toBe(digest);
  optimizer.step(1);
  await expect(engine.settled()).rejects.toMatchObject({ where: 'optimizer.step', remedy: expect.anything() });
  optimizer.dispose();
});
