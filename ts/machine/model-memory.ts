import { addon, inspectTensors } from '../native/index.ts';
import { unwrap } from '../native/outcome.ts';

/** Parts of a model that are loaded into memory. */
export type LoadedPart = 'unet' | 'vae' | 'text';

/** Bytes of a weight in memory: everything is computed in f32. */
const BYTES_PER_WEIGHT = 4;

/**
 * Bytes that a model's part takes in memory once loaded, from the headers of the files that the loader reads.
 *
 * @throws PotstillError as loading it would, when a file is missing or malformed
 */
export async function weightBytes(model: string, part: LoadedPart): Promise<number> {
  const headers = await Promise.all((await weightFiles(model, part)).map((file) => inspectTensors(file)));
  const sizes = headers.flatMap(({ tensors }) => tensors.map(({ shape }) => shape.reduce((a, b) => a * b, 1)));
  return sizes.reduce((sum, size) => sum + size, 0) * BYTES_PER_WEIGHT;
}

async function weightFiles(model: string, part: LoadedPart): Promise<readonly string[]> {
  if (part === 'unet') return unwrap(await addon().inspectUnet(model)).files.weights;
  if (part === 'vae') return unwrap(await addon().inspectVae(model)).files.weights;
  return unwrap(await addon().inspectText(model)).encoders.flatMap(({ files }) => files.weights);
}
