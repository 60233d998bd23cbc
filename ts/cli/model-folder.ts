import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { inputError } from '../errors.ts';

/** Folders of a diffusers model that commands ask for. */
export type ModelPart = 'unet' | 'vae' | 'tokenizer' | 'text_encoder';

/**
 * A model as `--model` names it, with the parts that a command needs of it: a single file, of which reading its header
 * tells what is in it, or a folder.
 *
 * @throws PotstillError when it is nothing, no model's folder, or one without a part: all that are missing at once
 */
export async function modelFolder(path: string, parts: readonly ModelPart[]): Promise<string> {
  if ((await requireThere(path)) === 'file') return path;
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
 * A VAE as `--vae` names it: a file that holds one, its own folder, or that of a model which has one.
 *
 * @throws PotstillError when it is neither
 */
export async function vaeFolder(path: string): Promise<string> {
  if ((await requireThere(path)) === 'file') return path;
  if ([join(path, 'config.json'), join(path, 'vae', 'config.json')].some((file) => existsSync(file))) return path;
  throw inputError('ERR_MODEL_FILE', 'has neither a config.json nor a folder vae', {
    where: path,
    remedy: "Give a VAE's folder, or that of a model which has one.",
  });
}

const HOW_TO_NAME_A_MODEL = 'Give a .safetensors file, or a diffusers folder: the one that has unet/ in it.';

async function requireThere(path: string): Promise<'file' | 'folder'> {
  const found = await stat(path).catch(() => undefined);
  if (found !== undefined) return found.isDirectory() ? 'folder' : 'file';
  throw inputError('ERR_MODEL_FILE', 'no such file or folder', { where: path, remedy: HOW_TO_NAME_A_MODEL });
}
