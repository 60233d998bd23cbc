import { expect, test } from 'vitest';
import { requireUnetMemory, skipBytes } from './index.ts';

test("what SD1.5's way down leaves for its way up", () => {
  // Twelve tensors: 64², 64², 64², 32² of 320; 32², 32², 16² of 640; 16², 16², 8², 8², 8² of 1280 channels.
  const values = 320 * (3 * 4096 + 1024) + 640 * (2 * 1024 + 256) + 1280 * (2 * 256 + 3 * 64);
  expect(skipBytes('sd15', { size: 512, batch: 2 })).toBe(2 * 4 * values);
});

test('refuses gradients that do not fit beside the weights', async () => {
  const workload = { size: 64, batch: 1 } as const;
  await expect(requireUnetMemory('sd15', { ...workload, mode: 'forward' }, 4e9)).resolves.toBeUndefined();
  await expect(requireUnetMemory('sd15', { ...workload, mode: 'full' }, 4e9)).rejects.toMatchObject({
    code: 'ERR_MEMORY',
  });
});
