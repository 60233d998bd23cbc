import { expect, it } from 'vitest';
import { bytesInFilesLayout } from './files-layout.ts';

/** Lengths of what safetensors.torch.save makes of such tensors (safetensors 0.8). */
it.each([
  ['SDXL', { tokens: 77, width: 2048, pooled: 1280 }, 384_024],
  ['SD1.5', { tokens: 77, width: 768 }, 184_264],
])('counts a file of %s at 512 x 512 to the byte', (_, text, bytes) => {
  expect(bytesInFilesLayout([4, 64, 64], text)).toBe(bytes);
});
