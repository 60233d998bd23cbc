import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { potstill } from '../../test/support/command-line.ts';
import { decodeSafetensors, encodeSafetensors } from '../../test/support/safetensors.ts';
import { writeTinyModel } from '../../test/support/tiny-model.ts';
import type { CheckpointReport } from '../model/report.ts';
import { loadEngine, noise, Tensor, writeTensors } from '../native/index.ts';

const engine = await loadEngine({ threads: 2 });
let folder = '';
const at = (name: string): string => join(folder, name);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'potstill-model-'));
  await writeTinyModel(engine, at('model'), 1);
  const gaussian = (shape: readonly number[]): Tensor =>
    noise(engine, { generator: 'philox', seeds: [3n], shape }).reshape(shape);
  await writeTensors(at('in.safetensors'), {
    sample: gaussian([1, 4, 8, 8]),
    encoder_hidden_states: gaussian([1, 77, 32]),
    timestep: Tensor.fromArray(engine, [3], [1]),
  });
  const words = ['model', 'convert', at('model'), '--out', at('file.safetensors')];
  expect((await potstill(...words)).err).toContain("is not CLIP's tokenizer");
  const { code, err } = await potstill(...words, '--allow', 'tokenizer');
  expect(code, err).toBe(0);
});
afterAll(() => rm(folder, { recursive: true }));

/** Comparing large buffers by `toEqual` takes minutes. */
async function same(a: string, b: string): Promise<boolean> {
  return (await readFile(at(a))).equals(await readFile(at(b)));
}

async function inspect(path: string): Promise<CheckpointReport> {
  const { code, out, err } = await potstill('model', 'inspect', path, '--json');
  expect(code, err).toBe(0);
  return JSON.parse(out) as CheckpointReport;
}

test('a file has what its folder has', async () => {
  const [file, model] = [await inspect(at('file.safetensors')), await inspect(at('model'))];
  expect(file.layout).toBe('file');
  expect(file.components.map((c) => c.names)).toEqual(['ldm', 'ldm', 'diffusers']);
  const facts = ({ components }: CheckpointReport) =>
    components.map(({ component, matched, parameters, dtypes }) => ({ component, matched, parameters, dtypes }));
  expect(facts(file)).toEqual(facts(model));
  expect({ kind: file.kind, prediction: file.prediction, sound: file.sound }).toEqual({
    kind: 'sd15',
    prediction: model.prediction,
    sound: true,
  });
  const { out } = await potstill('model', 'inspect', at('file.safetensors'), '--digests');
  expect(out).toContain('Stable Diffusion 1.x (single file)');
  expect(out).toContain('Every key is accounted for.');
  expect(out).toMatch(/sha256 [0-9a-f]{64} {2}/);
});

test('commands take the file where they take the folder, with the same result', async () => {
  for (const model of ['model', 'file.safetensors']) {
    const words = ['probe', 'unet', '--model', at(model), '--in', at('in.safetensors'), '--out', at(`${model}.out`)];
    expect((await potstill(...words)).code).toBe(0);
  }
  expect(await same('file.safetensors.out', 'model.out')).toBe(true);
});

test('there and back is the same file; nothing is overwritten', async () => {
  expect((await potstill('model', 'convert', at('file.safetensors'), '--out', at('back'))).code).toBe(0);
  const again = await potstill('model', 'convert', at('back'), '--out', at('again.safetensors'), '--json');
  expect(JSON.parse(again.out)).toMatchObject({ layout: 'file', leftOut: [], absent: [] });
  expect(await same('again.safetensors', 'file.safetensors')).toBe(true);
  const refused = await potstill('model', 'convert', at('back'), '--out', at('again.safetensors'));
  expect(refused.code).toBe(2);
  expect(refused.err).toContain('exists already');
  expect((await readdir(folder)).filter((name) => name.startsWith('.'))).toEqual([]);
});

test('another dtype and another VAE', async () => {
  const words = [
    'model',
    'convert',
    at('model'),
    '--out',
    at('half.safetensors'),
    '--dtype',
    'bf16',
    '--allow',
    'tokenizer',
  ];
  expect((await potstill(...words, '--vae', at('file.safetensors'), '--title', 'Half')).code).toBe(0);
  const report = await inspect(at('half.safetensors'));
  expect(report.components.flatMap(({ dtypes }) => Object.keys(dtypes))).toEqual(['BF16', 'BF16', 'BF16']);
  expect(report.metadata['modelspec.title']).toBe('Half');
});

test('what is no model is refused in words', async () => {
  await writeFile(at('model.ckpt'), 'PK\u0003\u0004 and more bytes of a zip archive');
  for (const [path, message] of [
    ['model.ckpt', 'torch.save'],
    ['in.safetensors', 'none of which belongs'],
    ['nowhere', 'does not exist'],
  ] as const) {
    const { code, err } = await potstill('model', 'inspect', at(path));
    expect(err).toContain(message);
    expect(code).toBe(2);
  }
});

test('matrices in fewer bits: what was done is told, and every command reads the result', async () => {
  const errors = { nf4: 0, int8: 0, fp8: 0 };
  for (const [format, out] of [
    ['nf4', 'nf4'],
    ['int8', 'int8'],
    ['fp8', 'fp8.safetensors'],
  ] as const) {
    const words = ['model', 'quantize', at('model'), '--format', format, '--out', at(out), '--allow', 'tokenizer'];
    const { code, out: text, err } = await potstill(...words, '--json');
    expect(code, err).toBe(0);
    const [part] = (JSON.parse(text) as { quantized: { component: string; error: number; worstError: number }[] })
      .quantized;
    expect(part).toMatchObject({ component: 'unet' });
    errors[format] = part?.error ?? 0;
    const report = await inspect(at(out));
    expect(report.sound).toBe(true);
    expect(report.components[0]?.quantized.tensors).toBeGreaterThan(0);
    expect(Object.keys(report.components[0]?.dtypes ?? {})).toContain(
      { nf4: 'NF4', int8: 'INT8', fp8: 'F8_E4M3 scaled' }[format],
    );
    const probe = ['probe', 'unet', '--model', at(out), '--in', at('in.safetensors'), '--out', at(`${out}.out`)];
    expect((await potstill(...probe)).code).toBe(0);
    expect(await same(`${out}.out`, 'model.out')).toBe(false);
    const atOnce = ['probe', 'unet', '--model', at('model'), '--in', at('in.safetensors'), '--quantize', format];
    expect((await potstill(...atOnce, '--out', at('at-once.out'))).code).toBe(0);
    expect(await same('at-once.out', `${out}.out`)).toBe(true);
  }
  expect(errors.int8).toBeLessThan(errors.fp8);
  expect(errors.fp8).toBeLessThan(errors.nf4);
  expect(errors.nf4).toBeLessThan(0.12);
  const again = await potstill('model', 'quantize', at('nf4'), '--format', 'int8', '--out', at('again'));
  expect([again.code, again.err]).toEqual([2, expect.stringContaining('is quantized already')]);
  const file = await potstill(
    'model',
    'quantize',
    at('model'),
    '--format',
    'nf4',
    '--out',
    at('x'),
    '--components',
    'vae',
  );
  expect([file.code, file.err]).toEqual([2, expect.stringContaining('text_encoder')]);
});

test('quantized weights are not trained', async () => {
  const unet = ['probe', 'unet', '--model', at('nf4'), '--in', at('target.safetensors'), '--out', at('grads')];
  const tensor = (shape: readonly number[]): Tensor =>
    noise(engine, { generator: 'philox', seeds: [3n], shape }).reshape(shape);
  await writeTensors(at('target.safetensors'), {
    sample: tensor([1, 4, 8, 8]),
    target: tensor([1, 4, 8, 8]),
    encoder_hidden_states: tensor([1, 77, 32]),
    timestep: Tensor.fromArray(engine, [3], [1]),
  });
  const { code, err } = await potstill(...unet, '--backward');
  expect([code, err]).toEqual([2, expect.stringContaining('is quantized and cannot be trained')]);
});

test('an adapter is trained beside quantized weights, and not laid into them', async () => {
  const layer = 'mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj';
  const values = (count: number): Float32Array => Float32Array.from({ length: count }, (_, i) => ((i % 7) - 3) / 10);
  const adapter = new Map([
    [`lora_unet_${layer}.lora_up.weight`, { shape: [512, 2], values: values(1024) }],
    [`lora_unet_${layer}.lora_down.weight`, { shape: [2, 64], values: values(128) }],
  ]);
  await writeFile(at('adapter.safetensors'), encodeSafetensors(adapter));
  const lora = ['--lora', at('adapter.safetensors')];
  const unet = ['probe', 'unet', '--model', at('nf4'), '--in', at('target.safetensors'), ...lora];
  const trained = await potstill(...unet, '--backward', '--out', at('lora-grads'));
  expect(trained.code, trained.err).toBe(0);
  const gradients = decodeSafetensors(await readFile(at('lora-grads')));
  const of = [...gradients].filter(([name]) => name.startsWith('grad.'));
  expect(of).toHaveLength(2);
  for (const [name, { values: gradient }] of of) expect(Math.hypot(...gradient), name).toBeGreaterThan(0);

  const refused = [2, expect.stringContaining('are quantized and cannot be changed')];
  const laid = await potstill(...unet, '--out', at('laid'));
  expect([laid.code, laid.err]).toEqual(refused);
  const words = ['--prompt', 'a red apple', '--steps', '1', '--size', '64x64', '--out', at('pictures')];
  const drawn = await potstill('sample', '--model', at('nf4'), ...lora, ...words);
  expect([drawn.code, drawn.err]).toEqual(refused);
  const merged = await potstill('model', 'quantize', at('model'), ...lora, '--format', 'nf4', '--out', at('merged'));
  expect(merged.code, merged.err).toBe(0);
});
