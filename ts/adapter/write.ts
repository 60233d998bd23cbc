import { cancelled } from '../native/cancel.ts';
import type {
  AdapterTarget,
  ExtractedAdapter,
  KeptRanks as NativeKeptRanks,
  ResizedLayer,
} from '../native/generated/binding.js';
import { addon } from '../native/load.ts';
import { unwrap } from '../native/outcome.ts';

export type { ExtractedAdapter, ResizedLayer };

/** Whose names and conventions a file has. */
export const DIALECTS = ['kohya', 'comfy', 'peft', 'diffusers'] as const;
export type Dialect = (typeof DIALECTS)[number];

/** How many ranks of a layer are kept: at most `rank`, as few as keep `energy` (a share of the squared norm), or both. */
export interface KeptRanks {
  readonly rank?: number | undefined;
  readonly energy?: number | undefined;
}

/** How an adapter is to be written, and for which model it is. What is left out stays as it is in the source. */
export interface AdapterFormat {
  /** The model that it is for, where that is none of the published widths. */
  readonly model?: string | undefined;
  readonly dialect?: Dialect | undefined;
  readonly dtype?: 'f32' | 'f16' | 'bf16' | undefined;
  /** `modelspec.title` */
  readonly title?: string | undefined;
  /** What the model predicts with the adapter, where the adapter changes that. */
  readonly prediction?: 'epsilon' | 'v' | 'x0' | 'flow' | undefined;
}

/**
 * Writes an adapter in another dialect or dtype. Nothing may be at the target yet.
 *
 * @returns the files
 */
export async function convertAdapter(path: string, out: string, format: AdapterFormat): Promise<readonly string[]> {
  return unwrap(await addon().convertAdapter(path, out, target(format)));
}

/**
 * Makes an adapter as strong as the factors say, in comparison with what it was as made: scaling what is scaled already
 * by the same factors changes nothing.
 *
 * @returns the files
 */
export async function scaleAdapter(
  path: string,
  out: string,
  factors: { readonly unet: number; readonly text: number },
  format: AdapterFormat,
): Promise<readonly string[]> {
  return unwrap(await addon().scaleAdapter(path, out, factors.unet, factors.text, target(format)));
}

/**
 * Writes the exact weighted sum of adapters; ranks add up.
 *
 * @param blocks factors of layers by the start of their names (`unet.up_blocks.1`), beside the adapters' weights
 * @returns the files
 */
export async function mergeAdapters(
  summands: readonly { readonly path: string; readonly weight: number }[],
  blocks: readonly { readonly block: string; readonly weight: number }[],
  out: string,
  format: AdapterFormat,
): Promise<readonly string[]> {
  return unwrap(await addon().mergeAdapters([...summands], [...blocks], out, target(format)));
}

/**
 * Writes the best approximation of every layer's change with fewer ranks.
 *
 * @param signal ends the work after the layer at hand, and nothing is written
 * @returns what every layer lost
 */
export async function resizeAdapter(
  path: string,
  out: string,
  keep: KeptRanks,
  format: AdapterFormat,
  signal?: AbortSignal,
): Promise<readonly ResizedLayer[]> {
  using cancel = cancelled(signal);
  return unwrap(await addon().resizeAdapter(path, out, given(keep), target(format), cancel.token));
}

/**
 * Writes what adapters together do to their model as one LoRA of fewer ranks: what merging them into the model and taking
 * the difference gives, without the rounding of the model's weights.
 *
 * @param keep with the rank where any is another kind than LoRA
 * @param format with `model`, which DoRAs need
 * @returns what every layer lost
 */
export async function backMergeAdapters(
  summands: readonly { readonly path: string; readonly weight: number }[],
  out: string,
  keep: KeptRanks,
  format: AdapterFormat,
  signal?: AbortSignal,
): Promise<readonly ResizedLayer[]> {
  using cancel = cancelled(signal);
  return unwrap(await addon().backMergeAdapters([...summands], out, given(keep), target(format), cancel.token));
}

/**
 * Writes the LoRA that leads from one checkpoint to another, layer by layer: at most `rank` ranks, as few as keep `energy`.
 *
 * @returns what every layer lost, and what differs and has no place in a LoRA (norms, biases, embeddings)
 */
export async function extractAdapter(
  checkpoints: { readonly base: string; readonly tuned: string },
  out: string,
  keep: KeptRanks & { readonly rank: number },
  format: Omit<AdapterFormat, 'model'>,
  signal?: AbortSignal,
): Promise<ExtractedAdapter> {
  const { base, tuned } = checkpoints;
  using cancel = cancelled(signal);
  return unwrap(await addon().extractAdapter(base, tuned, out, given(keep), target(format), cancel.token));
}

function given({ rank, energy }: KeptRanks): NativeKeptRanks {
  return { ...(rank === undefined ? {} : { rank }), ...(energy === undefined ? {} : { energy }) };
}

function target({ model, dialect, dtype, title, prediction }: AdapterFormat): AdapterTarget {
  return {
    ...(model === undefined ? {} : { model }),
    ...(dialect === undefined ? {} : { dialect }),
    ...(dtype === undefined ? {} : { dtype }),
    ...(title === undefined ? {} : { title }),
    ...(prediction === undefined ? {} : { prediction }),
  };
}
