import type { EncoderOnDisk, InspectedImage, TextOnDisk, UnetOnDisk, VaeOnDisk } from '../native/generated/binding.js';
import { addon } from '../native/load.ts';
import type { ModelKind } from '../native/model.ts';
import { unwrap } from '../native/outcome.ts';
import type { Size } from './data/view.ts';

export type { EncoderOnDisk, InspectedImage, TextOnDisk, UnetOnDisk, VaeOnDisk };

/** Reads and decodes an image, and finds the centre crop of that of the sizes whose shape is nearest to its own. */
export async function inspectImage(path: string, sizes: readonly Size[]): Promise<InspectedImage> {
  return unwrap(await addon().inspectImage(path, [...sizes]));
}

/** Files, schedule and prediction of the UNet in a model's folder. Nothing but configurations is read. */
export async function inspectUnet(model: string): Promise<UnetOnDisk> {
  return unwrap(await addon().inspectUnet(model));
}

/**
 * Files and facts of a VAE: `MODEL/vae`, a VAE's own folder, or a file that holds one.
 *
 * @param kind of the model that a file with a VAE alone is for: it decides the scaling factor
 */
export async function inspectVae(path: string, kind?: ModelKind): Promise<VaeOnDisk> {
  return unwrap(await addon().inspectVae(path, kind));
}

/** Files and facts of the text encoders in a model's folder. */
export async function inspectText(model: string): Promise<TextOnDisk> {
  return unwrap(await addon().inspectText(model));
}
