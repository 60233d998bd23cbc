import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { inputError } from '../errors.ts';
import { inspectModel } from '../model/inspect.ts';
import type { ComponentReport } from '../model/report.ts';
import { addon, inspectTensors, type Precision, type QuantFormat } from '../native/index.ts';
import { unwrap } from '../native/outcome.ts';

/** Parts of a model that are loaded into memory. */
export type LoadedPart = 'unet' | 'vae' | 'text';

/** Bytes of a weight in memory. */
const BYTES_PER_WEIGHT = { f32: 4, bf16: 2 } as const;

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
export async function weightBytes(
  model: string,
  part: LoadedPart,
  dtype: keyof typeof BYTES_PER_WEIGHT = 'f32',
): Promise<number> {
  const isFolder = existsSync(join(model, 'unet', 'config.json'));
  const { weights, codes } = await (isFolder ? weightsInFiles(model, part) : weightsOfPart(model, part));
  return BYTES_PER_WEIGHT[dtype] * weights + codes;
}

/** Bytes of a value in codes, without their scales. */
const BYTES_PER_CODE = { nf4: 0.5, int8: 1, fp8: 1 } as const;

/** As {@link weightBytes}, of a UNet whose matrices are held in something else than they lie on disk. */
export async function unetBytes(model: string, storage: Precision | QuantFormat = 'f32'): Promise<number> {
  if (storage === 'f32' || storage === 'bf16') return weightBytes(model, 'unet', storage);
  const { weights, matrices } = unwrap(await addon().predictUnetMemory(model, { ...LEAST, trained: 'nothing' }));
  return BYTES_PER_WEIGHT.f32 * (weights - matrices) + BYTES_PER_CODE[storage] * matrices;
}

/** A LoRA as a recipe describes it. */
export interface LoraShape {
  readonly rank: number;
  readonly targets: string | readonly string[];
  /** Layers among the targets with a rank of their own; the last that chooses a layer counts. */
  readonly blocks?: readonly { readonly layers: string; readonly rank?: number | undefined }[] | undefined;
}

/**
 * Bytes of a LoRA's parameters on a model's UNet, from its configuration alone. Parameters are as many as the rank times
 * something of each layer: f of the layers that patterns choose together. Of layers that both A and B choose, that is
 * f(A) + f(B) − f(A or B).
 */
export async function loraBytes(model: string, { rank, targets, blocks = [] }: LoraShape): Promise<number> {
  const all = [targets].flat();
  const perRank = async (patterns: readonly string[]): Promise<number> => {
    const question = { ...LEAST, trained: 'lora' as const, rank: 1, targets: [...patterns] };
    return unwrap(await addon().predictUnetMemory(model, question)).trained;
  };
  const whole = await perRank(all);
  let parameters = 0;
  // From the last block to the first, which has what the later ones have left.
  const chosen: string[] = [];
  let counted = 0;
  for (const { layers, rank: own = rank } of [...blocks].reverse()) {
    chosen.push(layers);
    const among = whole + (await perRank(chosen)) - (await perRank([...all, ...chosen]));
    parameters += own * (among - counted);
    counted = among;
  }
  return BYTES_PER_WEIGHT.f32 * (parameters + rank * (whole - counted));
}

/** Bytes of a LoRA that is trained: a new one, or that of a file. */
export async function adapterBytes(model: string, lora: string | LoraShape): Promise<number> {
  if (typeof lora !== 'string') return loraBytes(model, lora);
  const { tensors } = await inspectTensors(lora);
  return BYTES_PER_WEIGHT.f32 * sum(tensors.map(({ shape }) => shape.reduce((a, b) => a * b, 1)));
}

/** For questions whose answer does not depend on the pictures. */
const LEAST = { batch: 1, height: 64, width: 64, recompute: false };

/** What is loaded as it is, and bytes of what is quantized, which stays so. */
interface Sizes {
  readonly weights: number;
  readonly codes: number;
}

/** dtypes of codes, a byte each. */
const CODES: readonly string[] = ['U8', 'I8', 'F8_E4M3', 'F8_E5M2'];

/** Weights of a part of a model's folder, from its files alone: what else is in the folder need not be whole. */
async function weightsInFiles(model: string, part: LoadedPart): Promise<Sizes> {
  const headers = await Promise.all((await weightFiles(model, part)).map((file) => inspectTensors(file)));
  const tensors = headers.flatMap((header) =>
    header.tensors.map(({ dtype, shape }) => ({
      coded: CODES.includes(dtype),
      count: shape.reduce((a, b) => a * b, 1),
    })),
  );
  const total = (coded: boolean): number => sum(tensors.filter((t) => t.coded === coded).map(({ count }) => count));
  return { weights: total(false), codes: total(true) };
}

/** Weights of a part of what holds other parts as well, in the same file. */
async function weightsOfPart(path: string, part: LoadedPart): Promise<Sizes> {
  const { components } = await inspectModel(path);
  const found = components.filter(({ component }) => COMPONENTS[part].includes(component));
  if (found.length === 0) {
    throw inputError('ERR_MODEL_FILE', `holds no ${COMPONENTS[part][0]}; give a file or folder that has one`, {
      where: path,
      remedy: `What it has: ${components.map(({ component }) => component).join(', ')}.`,
    });
  }
  return {
    weights: sum(found.map(({ parameters, quantized }) => parameters - quantized.parameters)),
    codes: sum(found.map(({ quantized }) => quantized.bytes)),
  };
}

async function weightFiles(model: string, part: LoadedPart): Promise<readonly string[]> {
  if (part === 'unet') return unwrap(await addon().inspectUnet(model)).files.weights;
  if (part === 'vae') return unwrap(await addon().inspectVae(join(model, 'vae'), undefined)).files.weights;
  return unwrap(await addon().inspectText(model)).encoders.flatMap(({ files }) => files.weights);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, value) => total + value, 0);
}
