import { requireMemory } from '../machine/index.ts';
import { ARCHITECTURES, type Architecture } from './architectures.ts';
import type { UnetWorkload } from './unet.ts';

const BYTES_OF_F32 = 4;
/** Weights of the UNets. */
const PARAMETERS: Record<Architecture, number> = { sd15: 859_520_964, sdxl: 2_567_463_684 };
/** Pixels to a latent. */
const LATENT = 8;

/**
 * Bytes of the activations that a UNet's way down leaves for its way up, all alive at once at the bottom: f32, the first
 * convolution's, every layer's and every downsampling's.
 */
export function skipBytes(architecture: Architecture, { size, batch }: Pick<UnetWorkload, 'size' | 'batch'>): number {
  const { block_out_channels: widths, layers_per_block: layers } = ARCHITECTURES[architecture];
  const pixels = (level: number): number => (size / LATENT / 2 ** level) ** 2;
  const values = widths.reduce<number>((sum, width, level) => {
    const downsampled = level + 1 < widths.length ? width * pixels(level + 1) : 0;
    return sum + layers * width * pixels(level) + downsampled;
  }, widths[0] * pixels(0));
  return batch * values * BYTES_OF_F32;
}

/**
 * Refuses a workload that cannot fit: weights, their gradients, and what the way down leaves for the way up.
 *
 * @param available bytes that can be had, for tests; asked of the machine unless given
 * @throws PotstillError `ERR_MEMORY`
 */
export async function requireUnetMemory(
  architecture: Architecture,
  workload: UnetWorkload,
  available?: number,
): Promise<void> {
  const weights = PARAMETERS[architecture] * BYTES_OF_F32;
  await requireMemory(
    [
      { what: 'weights', bytes: weights },
      ...(workload.mode === 'full' ? [{ what: 'gradients', bytes: weights }] : []),
      { what: 'activations', bytes: skipBytes(architecture, workload) },
    ],
    {
      where: `${architecture} ${workload.size}x${workload.size}, batch ${workload.batch}, ${workload.mode}`,
      remedy: 'Close other programs, or give a smaller --size or --batch.',
      available,
    },
  );
}
