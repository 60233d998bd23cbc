import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isAdapter } from '../../adapter/index.ts';
import { inputError } from '../../errors.ts';
import { inspectTensors } from '../../native/tensor-file.ts';
import { canonicalJson } from '../canonical.ts';
import { sha256OfFile, sha256OfText } from '../data/digest.ts';
import type { DigestOptions } from './model-digest.ts';

/** What is read of a folder that peft saved; what else lies there changes nothing. */
const PEFT_CONFIG = 'adapter_config.json';
const PEFT_WEIGHTS = 'adapter_model.safetensors';
/** What the names of peft's tensors begin with. */
const PEFT_PREFIX = 'base_model.model.';

/** Where they lie: in the folder itself, or in one for each network. */
const PEFT_FOLDERS = ['', 'text_encoder/', 'text_encoder_2/', 'unet/'];

/**
 * Digest of everything that fixes what an adapter does: of its file, or of what is read of a folder as peft saves
 * one, by name (canonical JSON); a file of peft's is read with the configuration beside it. Links stand for what they lead to: the Hub's cache is made of them.
 *
 * @throws PotstillError `ERR_ADAPTER_INPUT` when there is none
 */
export async function digestAdapter(path: string, { signal }: DigestOptions = {}): Promise<string> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined || !(await isAdapter(path))) {
    throw inputError('ERR_ADAPTER_INPUT', found === undefined ? 'no such file or folder' : 'is no adapter', {
      where: path,
      remedy: "Give a LoRA's .safetensors file, or a folder as peft saves one.",
    });
  }
  if (found.isFile()) {
    const config = join(dirname(path), PEFT_CONFIG);
    if (!(await isFile(config)) || !(await isOfPeft(path))) return sha256OfFile(path, signal);
    return digestFiles({ [PEFT_CONFIG]: config, [PEFT_WEIGHTS]: path }, signal);
  }
  const read: Record<string, string> = {};
  for (const name of PEFT_FOLDERS.flatMap((folder) => [`${folder}${PEFT_CONFIG}`, `${folder}${PEFT_WEIGHTS}`])) {
    if (await isFile(join(path, name))) read[name] = join(path, name);
  }
  return digestFiles(read, signal);
}

async function digestFiles(files: Readonly<Record<string, string>>, signal: AbortSignal | undefined): Promise<string> {
  const digests: Record<string, string> = {};
  for (const [name, file] of Object.entries(files)) digests[name] = await sha256OfFile(file, signal);
  return sha256OfText(canonicalJson(digests));
}

/** Whether the scales of a file's layers are in the configuration beside it. */
async function isOfPeft(file: string): Promise<boolean> {
  return (await inspectTensors(file)).tensors.some(({ name }) => name.startsWith(PEFT_PREFIX));
}

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() === true;
}
