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
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What was written. */
export interface Converted {
  readonly files: readonly string[];
  /** Keys that were left out because they were allowed to be. */
  readonly leftOut: readonly string[];
  /** Components that the source lacks. */
  readonly absent: readonly string[];
}

/** How often progress is looked at, in milliseconds. */
const POLL_MS = 200;

/** Writes a model in another layout or dtype; the target appears whole or not at all. */
export async function convertModel(source: string, target: string, options: ConvertOptions): Promise<Converted> {
  const { layout, dtype, title, allow = [], vae, adapters = [], progress = silentProgress, signal } = options;
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
  };
  try {
    const outcome = await native.convertCheckpointTo(source, target, request, state, cancel.token);
    signal?.throwIfAborted();
    return unwrap(outcome);
  } finally {
    clearInterval(timer);
  }
}
