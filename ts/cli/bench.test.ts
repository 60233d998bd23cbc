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

test.each([
  ['bf16', ['--dtype', 'bf16'], '--dtype bf16 is not built yet'],
  ['another device', ['--device', 'cuda'], '--device cuda is not built yet'],
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
  const { code, err } = await potstill('bench', 'verify', 'cache');
  expect(err).toContain('potstill bench verify is not built yet');
  expect(code).toBe(2);
});
