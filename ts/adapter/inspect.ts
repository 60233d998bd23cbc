import { addon } from '../native/load.ts';
import { unwrap } from '../native/outcome.ts';
import type { Dialect } from './write.ts';

/** What an adapter does to one layer. */
export interface AdapterModule {
  /** diffusers' path with the component before it: `unet.mid_block.attentions.0.proj_in`. */
  readonly name: string;
  readonly kind: 'lora' | 'dora' | 'loha' | 'lokr' | 'full';
  /** Of the layer's weight. */
  readonly shape: readonly number[];
  /** None for a whole difference, and for a LoKr without factors. */
  readonly rank: number | null;
  readonly alpha: number | null;
  /** alpha / rank; 1 without a rank. */
  readonly scale: number;
  /** Frobenius norm of the scaled change; a DoRA's without its magnitude. */
  readonly norm: number;
  readonly bias: boolean;
}

/** What an adapter's file holds. */
export interface AdapterReport {
  readonly kind: 'sd15' | 'sdxl';
  readonly dialect: Dialect;
  /** The widest of its tensors, as safetensors names it. */
  readonly dtype: string;
  /** Number of layers by kind. */
  readonly kinds: Readonly<Record<string, number>>;
  readonly blocks: readonly { readonly name: string; readonly modules: number; readonly norm: number }[];
  readonly modules: readonly AdapterModule[];
  /** What was done to it with potstill, the oldest first. */
  readonly provenance: readonly { readonly tool: string; readonly operation: string; readonly details: unknown }[];
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Reads an adapter, accounting for every key.
 *
 * @param model the model that it is for, where that is none of the published widths
 * @throws PotstillError `ERR_ADAPTER_KEYS` with every key that names no layer or does not fit it
 */
export async function inspectAdapter(path: string, model?: string): Promise<AdapterReport> {
  return JSON.parse(unwrap(await addon().inspectAdapter(path, model))) as AdapterReport;
}
