import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { inputError } from '../errors.ts';
import { inspectModel } from '../model/inspect.ts';
import type { ComponentReport } from '../model/report.ts';
import { addon, inspectTensors } from '../native/index.ts';
import { unwrap } from '../native/outcome.ts';

/** Parts of a model that are loaded into memory. */
export type LoadedPart = 'unet' | 'vae' | 'text';

/** Bytes of a weight in memory: everything is computed in f32. */
const BYTES_PER_WEIGHT = 4;

/** Components of each part: SDXL has two text encoders. */
const COMPONENTS: Readonly<Record<LoadedPart, readonly ComponentReport['component'][]>> = {
  unet: ['unet'],
  vae: ['vae'],
  text: ['text_encoder', 'text_encoder_2'],
};

/**
 * Bytes that a model's part takes in memory once loaded, from headers alone.
 *
 * @param model a diffusers folder, a single file, or the folder of the part itself
 * @throws PotstillError as loading it would, when a file is missing or malformed
 */
export async function weightBytes(model: string, part: LoadedPart): Promise<number> {
  const isFolder = existsSync(join(model, 'unet', 'config.json'));
  return BYTES_PER_WEIGHT * (isFolder ? await weightsInFiles(model, part) : await weightsOfPart(model, part));
}

/** Weights of a part of a model's folder, from its files alone: what else is in the folder need not be whole. */
async function weightsInFiles(model: string, part: LoadedPart): Promise<number> {
  const headers = await Promise.all((await weightFiles(model, part)).map((file) => inspectTensors(file)));
  const sizes = headers.flatMap(({ tensors }) => tensors.map(({ shape }) => shape.reduce((a, b) => a * b, 1)));
  return sum(sizes);
}

/** Weights of a part of what holds other parts as well, in the same file. */
async function weightsOfPart(path: string, part: LoadedPart): Promise<number> {
  const { components } = await inspectModel(path);
  const found = components.filter(({ component }) => COMPONENTS[part].includes(component));
  if (found.length === 0) {
    throw inputError('ERR_MODEL_FILE', `holds no ${COMPONENTS[part][0]}; give a file or folder that has one`, {
      where: path,
      remedy: `What it has: ${components.map(({ component }) => component).join(', ')}.`,
    });
  }
  return sum(found.map(({ parameters }) => parameters));
}

async function weightFiles(model: string, part: LoadedPart): Promise<readonly string[]> {
  if (part === 'unet') return unwrap(await addon().inspectUnet(model)).files.weights;
  if (part === 'vae') return unwrap(await addon().inspectVae(model)).files.weights;
  return unwrap(await addon().inspectText(model)).encoders.flatMap(({ files }) => files.weights);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, value) => total + value, 0);
}
