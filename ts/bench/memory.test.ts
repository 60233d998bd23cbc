import { expect, test } from 'vitest';
import {
  hiddenStateBytes,
  pictureBytes,
  requireTextMemory,
  requireUnetMemory,
  requireVaeMemory,
  skipBytes,
} from './index.ts';

test("what SD1.5's way down leaves for its way up", () => {
  // Twelve tensors: 64², 64², 64², 32² of 320; 32², 32², 16² of 640; 16², 16², 8², 8², 8² of 1280 channels.
  const values = 320 * (3 * 4096 + 1024) + 640 * (2 * 1024 + 256) + 1280 * (2 * 256 + 3 * 64);
  expect(skipBytes('sd15', { size: 512, batch: 2 })).toBe(2 * 4 * values);
});

test('refuses gradients that do not fit beside the weights', async () => {
  const workload = { size: 64, batch: 1 } as const;
  await expect(
    requireUnetMemory('sd15', { ...workload, mode: 'forward' }, { available: 4e9 }),
  ).resolves.toBeUndefined();
  const halved = { ...workload, mode: 'forward', dtype: 'bf16' } as const;
  await expect(requireUnetMemory('sd15', halved, { available: 2e9 })).resolves.toBeUndefined();
  await expect(requireUnetMemory('sd15', { ...halved, dtype: 'f32' }, { available: 2e9 })).rejects.toThrow();
  await expect(requireUnetMemory('sd15', { ...workload, mode: 'full' }, { available: 4e9 })).rejects.toMatchObject({
    code: 'ERR_MEMORY',
  });
});

test("what a VAE's full resolution and text encoders' layers take", () => {
  expect(pictureBytes({ size: 512, batch: 1, mode: 'decode' })).toBe(2 * 256 * 512 * 512 * 4);
  expect(pictureBytes({ size: 512, batch: 3, mode: 'encode' })).toBe(3 * 2 * 128 * 512 * 512 * 4);
  expect(hiddenStateBytes('sdxl', { batch: 2 })).toBe(2 * 77 * (13 * 768 + 33 * 1280) * 4);
});

test('refuses pictures and prompts that do not fit, saying what needs how much', async () => {
  const picture = { size: 512, batch: 1, mode: 'decode' } as const;
  await expect(requireVaeMemory(picture, { available: 1e9 })).resolves.toBeUndefined();
  await expect(requireVaeMemory({ ...picture, size: 4096 }, { available: 1e9 })).rejects.toMatchObject({
    what: expect.stringMatching(/weights 0\.33 GB, activations 34 GB/),
    where: 'VAE 4096x4096, batch 1, decode',
  });
  await expect(requireTextMemory('sd15', { batch: 2 }, { available: 1e9 })).resolves.toBeUndefined();
  await expect(requireTextMemory('sdxl', { batch: 2 }, { available: 1e9 })).rejects.toMatchObject({
    what: expect.stringMatching(/weights 3\.27 GB/),
    where: 'text encoders of sdxl, batch 2',
  });
});
