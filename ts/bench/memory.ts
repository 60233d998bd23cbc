import { type MemoryNeed, requireMemory } from '../machine/index.ts';
import type { Device } from '../native/index.ts';
import { type Architecture, TEXT_ENCODERS, UNETS, VAE } from './architectures.ts';
import { LATENT } from './inputs.ts';
import type { TextWorkload } from './text.ts';
import type { UnetWorkload } from './unet.ts';
import type { VaeWorkload } from './vae.ts';

const BYTES = { f32: 4, bf16: 2 } as const;
/** Weights of the UNets, of the VAE, and of the text encoders together. */
const PARAMETERS = {
  unet: { sd15: 859_520_964, sdxl: 2_567_463_684 },
  vae: 83_653_863,
  text: { sd15: 123_060_480, sdxl: 817_720_320 },
} as const;
/** Tokens of a prompt. */
const TOKENS = 77;

/**
 * Bytes of the activations that a UNet's way down leaves for its way up, all alive at once at the bottom: f32, the first
 * convolution's, every layer's and every downsampling's.
 */
export function skipBytes(architecture: Architecture, { size, batch }: Pick<UnetWorkload, 'size' | 'batch'>): number {
  const { block_out_channels: widths, layers_per_block: layers } = UNETS[architecture];
  const pixels = (level: number): number => (size / LATENT / 2 ** level) ** 2;
  const values = widths.reduce<number>((sum, width, level) => {
    const downsampled = level + 1 < widths.length ? width * pixels(level + 1) : 0;
    return sum + layers * width * pixels(level) + downsampled;
  }, widths[0] * pixels(0));
  return batch * values * BYTES.f32;
}

/**
 * Bytes of a VAE's activations while it normalises for the first time in full resolution: what the normalisation reads and
 * what it writes, f32. Decoding has the wider one there.
 */
export function pictureBytes({ size, batch, mode }: VaeWorkload): number {
  const [finest, next] = VAE.block_out_channels;
  return 2 * batch * (mode === 'decode' ? next : finest) * size ** 2 * BYTES.f32;
}

/** Bytes of the hidden states of text encoders, which are all kept: any of them may be asked for. */
export function hiddenStateBytes(architecture: Architecture, { batch }: TextWorkload): number {
  const values = TEXT_ENCODERS[architecture].reduce(
    (sum, { hidden_size: width, num_hidden_layers: layers }) => sum + (layers + 1) * width,
    0,
  );
  return batch * TOKENS * values * BYTES.f32;
}

/** Where it is to run, and bytes that can be had there: for tests, asked of the device unless given. */
interface Place {
  readonly device?: Device;
  readonly available?: number;
}

/** What is to be run, in words. */
interface Check extends Place {
  /** What the weights are kept in; f32 unless given. */
  readonly dtype?: keyof typeof BYTES | undefined;
  readonly where: string;
  readonly remedy: string;
}

function requireParts(parameters: number, others: readonly MemoryNeed[], check: Check): Promise<void> {
  return requireMemory([{ what: 'weights', bytes: parameters * BYTES[check.dtype ?? 'f32'] }, ...others], check);
}

/**
 * Refuses a workload that cannot fit: weights, their gradients, and what the way down leaves for the way up.
 *
 * @throws PotstillError `ERR_MEMORY`
 */
export function requireUnetMemory(
  architecture: Architecture,
  workload: UnetWorkload,
  options: Place = {},
): Promise<void> {
  const { size, batch, mode, dtype } = workload;
  const parameters = PARAMETERS.unet[architecture];
  const gradients = mode === 'full' ? [{ what: 'gradients', bytes: parameters * BYTES.f32 }] : [];
  const activations = { what: 'activations', bytes: skipBytes(architecture, workload) };
  return requireParts(parameters, [...gradients, activations], {
    dtype,
    where: `${architecture} ${size}x${size}, batch ${batch}, ${mode}`,
    remedy: 'Close other programs, or give a smaller --size or --batch.',
    ...options,
  });
}

/**
 * Refuses a workload that cannot fit: weights, and the first activations of full resolution.
 *
 * @throws PotstillError `ERR_MEMORY`
 */
export function requireVaeMemory(workload: VaeWorkload, options: Place = {}): Promise<void> {
  const { size, batch, mode } = workload;
  return requireParts(PARAMETERS.vae, [{ what: 'activations', bytes: pictureBytes(workload) }], {
    where: `VAE ${size}x${size}, batch ${batch}, ${mode}`,
    remedy: 'Close other programs, or give a smaller --size or --batch.',
    ...options,
  });
}

/**
 * Refuses a workload that cannot fit: weights, and the hidden states of all layers.
 *
 * @throws PotstillError `ERR_MEMORY`
 */
export function requireTextMemory(
  architecture: Architecture,
  workload: TextWorkload,
  options: Place = {},
): Promise<void> {
  const hidden = { what: 'hidden states', bytes: hiddenStateBytes(architecture, workload) };
  return requireParts(PARAMETERS.text[architecture], [hidden], {
    where: `text encoders of ${architecture}, batch ${workload.batch}`,
    remedy: 'Close other programs, or give a smaller --batch.',
    ...options,
  });
}
