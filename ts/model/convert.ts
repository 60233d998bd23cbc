import { cancelled } from '../native/cancel.ts';
import { addon } from '../native/load.ts';
import type { WeightedAdapter } from '../native/lora.ts';
import { unwrap } from '../native/outcome.ts';
import { type Progress, silentProgress } from '../progress.ts';

/** What to write. */
export interface ConvertOptions {
  readonly layout: 'file' | 'folder';
  /** Left out: each tensor's own. */
  readonly dtype?: 'f32' | 'f16' | 'bf16' | undefined;
  readonly title?: string | undefined;
  /** Keys that belong to nothing known and may be left out; a final `*` stands for the rest. */
  readonly allow?: readonly string[] | undefined;
  /** A file or folder whose VAE takes the place of the source's. */
  readonly vae?: string | undefined;
  /** Laid into the weights, in this order. */
  readonly adapters?: readonly WeightedAdapter[] | undefined;
  /** Which matrices to write in fewer bits: `nf4` and `int8` in a folder, `fp8` in a file. */
  readonly quantize?: QuantizeRequest | undefined;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Matrices to write in fewer bits. */
export interface QuantizeRequest {
  readonly format: 'nf4' | 'int8' | 'fp8';
  /** `fp8` is for the UNet alone. */
  readonly components: readonly ('unet' | 'text_encoder' | 'text_encoder_2')[];
}

/** What quantizing has done to a component. */
export interface QuantizedComponent {
  readonly component: QuantizeRequest['components'][number];
  /** Matrices that are in codes now. */
  readonly tensors: number;
  /** Values in them. */
  readonly parameters: number;
  /** Bytes of their codes and scales. */
  readonly bytes: number;
  /** Norm of the difference over the norm of the values (Frobenius), of all of them. */
  readonly error: number;
  /** The matrix with the largest such error, and its error. */
  readonly worst: string;
  readonly worstError: number;
}

/** What was written. */
export interface Converted {
  readonly files: readonly string[];
  /** Keys that were left out because they were allowed to be. */
  readonly leftOut: readonly string[];
  /** Components that the source lacks. */
  readonly absent: readonly string[];
  /** Empty when nothing was to be. */
  readonly quantized: readonly QuantizedComponent[];
}

/** How often progress is looked at, in milliseconds. */
const POLL_MS = 200;

/** Writes a model in another layout or dtype; the target appears whole or not at all. */
export async function convertModel(source: string, target: string, options: ConvertOptions): Promise<Converted> {
  const { layout, dtype, title, allow = [], vae, adapters = [], quantize, progress = silentProgress, signal } = options;
  const native = addon();
  const state = new native.ConversionProgress();
  using cancel = cancelled(signal);
  using task = progress.start(`writing ${target}`, { unit: 'bytes' });
  const timer = setInterval(() => task.set(state.done), POLL_MS);
  const request = {
    layout,
    allow: [...allow],
    adapters: adapters.map(({ file: path, weight }) => ({ path, weight })),
    ...(dtype === undefined ? {} : { dtype }),
    ...(title === undefined ? {} : { title }),
    ...(vae === undefined ? {} : { vae }),
    ...(quantize === undefined ? {} : { quantize: { ...quantize, components: [...quantize.components] } }),
  };
  try {
    const outcome = await native.convertCheckpointTo(source, target, request, state, cancel.token);
    signal?.throwIfAborted();
    return unwrap(outcome);
  } finally {
    clearInterval(timer);
  }
}
