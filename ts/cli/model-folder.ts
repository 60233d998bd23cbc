import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { inputError } from '../errors.ts';
import { notBuilt } from './not-built.ts';

/** Folders of a diffusers model that commands ask for. */
export type ModelPart = 'unet' | 'vae' | 'tokenizer' | 'text_encoder';

/** Endings of files that hold a whole model. */
const SINGLE_FILES = new Set(['.safetensors', '.ckpt', '.pt', '.gguf']);

/**
 * A model as `--model` names it, with the parts that a command needs of it.
 *
 * @throws PotstillError when it is nothing, a file, no model's folder, or one without a part: all that are missing at once
 */
export async function modelFolder(path: string, parts: readonly ModelPart[]): Promise<string> {
  await requireFolder(path, '--model');
  if (!existsSync(join(path, 'unet', 'config.json'))) {
    throw inputError('ERR_MODEL_FILE', 'is not a diffusers model: it has no unet/config.json', {
      where: path,
      remedy: HOW_TO_NAME_A_MODEL,
    });
  }
  const missing = parts.filter((part) => !existsSync(join(path, part)));
  if (missing.length === 0) return path;
  const vae = missing.includes('vae') ? ', or name a VAE with --vae where a command takes it' : '';
  throw inputError('ERR_MODEL_FILE', `the model has no ${missing.join(', no ')}`, {
    where: path,
    remedy: `Copy or link ${missing.map((part) => `${part}/`).join(', ')} from the model that it was made of${vae}.`,
  });
}

/**
 * A VAE as `--vae` names it: its own folder, or that of a model which has one.
 *
 * @throws PotstillError when it is neither
 */
export async function vaeFolder(path: string): Promise<string> {
  await requireFolder(path, '--vae');
  if ([join(path, 'config.json'), join(path, 'vae', 'config.json')].some((file) => existsSync(file))) return path;
  throw inputError('ERR_MODEL_FILE', 'has neither a config.json nor a folder vae', {
    where: path,
    remedy: "Give a VAE's folder, or that of a model which has one.",
  });
}

const HOW_TO_NAME_A_MODEL = "Give a diffusers model's folder: the one that has unet/ in it.";

async function requireFolder(path: string, option: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory() === true) return;
  if (found !== undefined && SINGLE_FILES.has(extname(path).toLowerCase())) {
    throw notBuilt(`${option} with a single file`);
  }
  const what = found === undefined ? 'no such file or folder' : 'is a file, not a model';
  throw inputError('ERR_MODEL_FILE', what, { where: path, remedy: HOW_TO_NAME_A_MODEL });
}
