import { join } from 'node:path';
import { expect, test } from 'vitest';
import { potstill } from '../../test/support/command-line.ts';

test('bench noise times both generators', async () => {
  const { code, out } = await potstill('bench', 'noise', '--iterations', '2', '--threads', '1', '--json');
  expect(code).toBe(0);
  const { torch, philox } = JSON.parse(out);
  for (const side of [torch, philox]) {
    expect(side).toMatchObject({ threads: 1, flops: 0, seconds: [expect.any(Number), expect.any(Number)] });
  }
  expect((await potstill('bench', 'noise', '--iterations', '1')).out).toMatch(/^torch: .* threads, .*\nphilox: /);
});

test('bench vae and bench text time models of full size', async () => {
  const vae = await potstill('bench', 'vae', '--size', '64', '--iterations', '2', '--json');
  expect(vae.code, vae.err).toBe(0);
  expect(JSON.parse(vae.out)).toMatchObject({ seconds: [expect.any(Number), expect.any(Number)] });
  // The encoder's and decoder's arithmetic differ.
  const encode = await potstill('bench', 'vae', '--size', '64', '--mode', 'encode', '--iterations', '1', '--json');
  expect(JSON.parse(encode.out).flops).toBeLessThan(JSON.parse(vae.out).flops);
  const text = await potstill('bench', 'text', '--batch', '1', '--iterations', '1', '--json');
  expect(text.code, text.err).toBe(0);
  // 77 tokens through 12 layers of 768, of which 12 · 768² are in a layer's products, and attention.
  expect(JSON.parse(text.out).flops).toBeGreaterThan(2 * 77 * 12 * 12 * 768 ** 2);
});

test('bench step tells the parts of a training step', async () => {
  const { code, out, err } = await potstill('bench', 'step', '--iterations', '1', '--threads', '1');
  expect(code, err).toBe(0);
  expect(out).toMatch(
    /^step: .* 1 threads.*\n.* reading\n.* forward\n.* backward\n.* clip\n.* optimizer\n.* ema\n.* rest\nloop alone: /,
  );
});

test.each(['native', 'wasm'])('bench verify times a cache, by %s', async (backend) => {
  const cache = join(import.meta.dirname, '../../test/fixtures/files_cache/shared');
  const words = ['--iterations', '2', '--backend', backend];
  const { code, out, err } = await potstill('bench', 'verify', cache, ...words, '--json');
  expect(code, err).toBe(0);
  expect(JSON.parse(out)).toMatchObject({ seconds: [expect.any(Number), expect.any(Number)], backend, verdict: 'ok' });
  expect(JSON.parse(out).bytes).toBeGreaterThan(10_000);
  expect((await potstill('bench', 'verify', cache, ...words)).out).toMatch(
    /shared, (native|wasm): .* of 2\); .*\/s; at most/,
  );
});

test.each([
  [['verify', 'nowhere'], 'no such folder', 2],
  [['vae', '--size', '100'], '100 is no multiple of 8', 2],
  [['vae', '--size', '65536'], /weights 0\.33 GB, activations \d+ GB.*\n.*VAE 65536x65536, batch 1, decode/, 3],
  [['vae', '--mode', 'sideways'], 'decode, encode', 2],
  [['vae', '--device', 'gpu'], 'auto, cpu, cuda, or cuda:1', 2],
  [['text', '--batch', '100000'], /weights 0\.49 GB, hidden states \d+ GB.*\n.*text encoders of sd15/, 3],
  [['text', '--arch', 'sd3'], 'sd15, sdxl', 2],
  [['text', '--iterations', '0'], 'whole number from 1', 2],
  [['step', '--threads', '0'], 'whole number from 1', 2],
])('bench refuses %j', async (words, message, exitCode) => {
  const { code, err } = await potstill('bench', ...words);
  expect(err).toMatch(message);
  expect(code).toBe(exitCode);
});

test.each([
  ['a number format that it does not know', ['--dtype', 'f16'], 'f32, bf16'],
  ['to train weights in bf16', ['--dtype', 'bf16', '--mode', 'full'], 'Give --mode forward or lora'],
  ['what is no device', ['--device', 'gpu'], 'auto, cpu, cuda, or cuda:1'],
  ['a size that the UNet cannot halve', ['--size', '500'], '500 is no multiple of 64'],
  ['activations to recompute where none are kept', ['--recompute'], 'Give --mode full'],
  ['an architecture that it does not know', ['--arch', 'sd3'], 'sd15, sdxl'],
  ['no threads', ['--threads', '0'], 'whole number from 1'],
])('bench unet refuses %s', async (_, words, message) => {
  const { code, err } = await potstill('bench', 'unet', ...words);
  expect(err).toContain(message);
  expect(code).toBe(2);
});

test('bench unet refuses a size that no memory holds, before it makes anything', async () => {
  const { code, err } = await potstill('bench', 'unet', '--size', '65536', '--batch', '64');
  expect(err).toMatch(/not enough memory: at least \d+ GB needed \(weights 3\.44 GB, activations \d+ GB\)/);
  expect(err).toContain('sd15 65536x65536, batch 64, forward');
  expect(code).toBe(3);
});

test('what is designed but not built says so by name', async () => {
  const { code, err } = await potstill('bench', 'methods');
  expect(err).toContain('potstill bench methods is not built yet');
  expect(code).toBe(2);
});
