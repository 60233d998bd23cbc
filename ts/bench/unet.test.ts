import { expect, test } from 'vitest';
import { loadEngine } from '../native/index.ts';
import { measure, UnetBenchmark } from './index.ts';

const engine = await loadEngine({ threads: 2 });
const config = {
  _class_name: 'UNet2DConditionModel',
  attention_head_dim: 2,
  block_out_channels: [32, 64],
  cross_attention_dim: 32,
  down_block_types: ['CrossAttnDownBlock2D', 'DownBlock2D'],
  up_block_types: ['UpBlock2D', 'CrossAttnUpBlock2D'],
  in_channels: 4,
  out_channels: 4,
  layers_per_block: 1,
};
const workload = { size: 64, batch: 2, mode: 'forward' } as const;
const NAMES = ['conv_in.weight', 'conv_out.bias'];

test('a workload computes the same every time, and its arithmetic is counted', async () => {
  const bench = await UnetBenchmark.create(engine, config, workload);
  const first = await bench.prediction();
  const result = await measure(engine, () => bench.run(), { iterations: 2 });
  expect(result.seconds).toHaveLength(2);
  expect(result).toMatchObject({ threads: 2, kernels: engine.kernelClass });
  expect(result).not.toHaveProperty('profile');
  expect(Math.min(...result.seconds)).toBeGreaterThan(0);
  expect(result.peakBytes).toBeGreaterThan(1e7);
  expect(await bench.prediction()).toEqual(first);
  // conv_in and conv_out alone: 2 pictures of 8×8 latents, 9 taps, 4 and 32 channels.
  expect(result.flops).toBeGreaterThan(2 * 2 * (2 * 64 * 9 * 4 * 32));
});

test('in bf16 it computes nearly the same', async () => {
  const exact = await UnetBenchmark.create(engine, config, workload);
  const rounded = await UnetBenchmark.create(engine, config, { ...workload, dtype: 'bf16' });
  const [a, b] = [await exact.prediction(), await rounded.prediction()];
  const norm = (values: Float32Array): number => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
  const error = norm(a.map((value, at) => value - (b[at] ?? 0))) / norm(a);
  expect(error).toBeGreaterThan(1e-4);
  expect(error).toBeLessThan(0.03);
  // A LoRA is trained beside such weights, which themselves are not.
  const lora = await UnetBenchmark.create(engine, config, { ...workload, mode: 'lora', dtype: 'bf16' });
  expect(await lora.run()).toBeGreaterThan(0);
  const full = await UnetBenchmark.create(engine, config, { ...workload, mode: 'full', dtype: 'bf16' });
  await expect(full.run()).rejects.toMatchObject({ remedy: expect.stringContaining('in bf16 it is frozen') });
});

test('lora predicts with a LoRA of two random factors and takes the gradient by it alone, for less arithmetic than full', async () => {
  const [forward, lora, full] = await Promise.all(
    (['forward', 'lora', 'full'] as const).map((mode) => UnetBenchmark.create(engine, config, { ...workload, mode })),
  );
  const flops = async (bench = forward): Promise<number> =>
    (await measure(engine, () => bench?.run() ?? Promise.reject(), { iterations: 1 })).flops;
  const [plain, adapted] = [await forward?.prediction(), await lora?.prediction()];
  const apart = plain?.reduce((sum, value, at) => sum + (value - (adapted?.[at] ?? 0)) ** 2, 0) ?? 0;
  expect(apart).toBeGreaterThan(1e-2 * (plain?.reduce((sum, value) => sum + value * value, 0) ?? 0));
  const [once, trained, all] = [await flops(forward), await flops(lora), await flops(full)];
  expect(trained).toBeGreaterThan(1.5 * once);
  expect(trained).toBeLessThan(0.9 * all);
  const norms = await lora?.gradientNorms();
  // Two blocks with one transformer each: self- and cross-attention of four layers, two factors a layer.
  expect([...(norms?.keys() ?? [])].filter((name) => /\.attn[12]\..*\.lora_[AB]\.weight$/.test(name))).toHaveLength(
    norms?.size ?? 0,
  );
  expect(norms?.size).toBe(4 * 2 * 4 * 2);
  expect(Math.min(...(norms?.values() ?? []))).toBeGreaterThan(0);
  await expect(lora?.gradientNorms(NAMES)).rejects.toThrow('is not trained');
});

test('full takes the gradient by every weight, anew each time, for about twice the arithmetic more', async () => {
  const forward = await UnetBenchmark.create(engine, config, workload);
  const full = await UnetBenchmark.create(engine, config, { ...workload, mode: 'full' });
  const again = await UnetBenchmark.create(engine, config, { ...workload, mode: 'full', recompute: true });
  const once = await measure(engine, () => forward.run(), { iterations: 1 });
  const both = await measure(engine, () => full.run(), { iterations: 1, profile: true });
  const most = await measure(engine, () => again.run(), { iterations: 1 });
  expect(both.flops / once.flops).toBeGreaterThan(2.8);
  expect(both.flops / once.flops).toBeLessThan(3.2);
  expect(most.flops).toBeGreaterThan(both.flops);
  const norms = await full.gradientNorms(NAMES);
  expect(Math.min(...norms.values())).toBeGreaterThan(0);
  await full.run();
  expect(await full.gradientNorms(NAMES)).toEqual(norms);
  expect(await again.gradientNorms(NAMES)).toEqual(norms);
  await expect(full.gradientNorms(['nothing.weight'])).rejects.toThrow('nothing.weight');
  const slowest = both.profile?.map(({ seconds }) => seconds) ?? [];
  expect(slowest).toEqual([...slowest].sort((a, b) => b - a));
  expect(both.profile?.some(({ op, backward }) => op === 'conv2d' && backward)).toBe(true);
});
