import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Engine } from './engine.ts';
import type { PredictionKind } from './generated/binding.js';
import { allocateFor } from './load-handle.ts';
import { Schedule } from './schedule.ts';

/** The family of a model, which decides how prompts condition it. */
export type ModelKind = 'sd15' | 'sdxl';

/** A model, a diffusers folder or a single file, opened but not loaded. */
export interface Model {
  readonly folder: string;
  readonly kind: ModelKind;
  /** What its UNet predicts: from the scheduler's configuration, epsilon when there is none. */
  readonly prediction: PredictionKind;
  readonly schedule: Schedule;
  readonly latentChannels: number;
  /** Width of the text that conditions it: 768, or 2048 for SDXL, in the published models. */
  readonly textWidth: number;
  /** SDXL: width of the pooled text. */
  readonly pooledWidth: number | undefined;
  /** Side of the latents that it was made for, when it says so. */
  readonly sampleSize: number | undefined;
}

/**
 * Reads the small configurations of a model's folder, or the header of a single file.
 *
 * @throws PotstillError when it is neither, or something in it is not supported
 */
export async function openModel(engine: Engine, folder: string): Promise<Model> {
  const [id, opened] = await allocateFor(engine, (out) => engine.native.openModel(out, folder));
  return {
    folder,
    kind: opened.kind,
    prediction: opened.prediction,
    schedule: new Schedule(engine, id, opened.timesteps),
    latentChannels: opened.latentChannels,
    textWidth: opened.textWidth,
    pooledWidth: opened.pooledWidth,
    sampleSize: opened.sampleSize,
  };
}

/** Where a VAE is loaded from that was named by itself: a model's folder has it in `vae`; else it is a folder or a file. */
export function vaePath(path: string): string {
  const inside = join(path, 'vae');
  return existsSync(inside) ? inside : path;
}

/** Where one of a model's components is loaded from: `MODEL/unet`, also when MODEL is a single file. */
export function componentFolder(model: { readonly folder: string }, component: 'unet' | 'vae'): string {
  return join(model.folder, component);
}
