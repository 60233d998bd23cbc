import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { isAdapter } from '../adapter/index.ts';
import { inputError } from '../errors.ts';

/** Weights to be measured. */
export interface MeasuredStudent {
  readonly folder: string;
  /**
   * A whole model, which says what its UNet predicts; a UNet's own folder; or adapters, which make a student of the
   * recipe's model.
   */
  readonly is: 'model' | 'unet' | 'adapters';
  /** Files of adapters (folders, as peft saves them), all of which are laid on the recipe's model. */
  readonly adapters: readonly string[];
}

/**
 * What is at a path that is to be measured.
 *
 * @throws PotstillError `ERR_MODEL_FILE` when it is neither a model nor a UNet's folder, nor one of adapters
 */
export async function findStudent(path: string): Promise<MeasuredStudent> {
  const found = statSync(path, { throwIfNoEntry: false });
  const has = (...names: readonly string[]): boolean => existsSync(join(path, ...names));
  if (found !== undefined && (await isAdapter(path))) return { folder: path, is: 'adapters', adapters: [path] };
  if (found?.isFile() === true) return { folder: path, is: 'model', adapters: [] };
  if (has('unet', 'config.json')) return { folder: path, is: 'model', adapters: [] };
  if (has('config.json')) return { folder: path, is: 'unet', adapters: [] };
  const result = await resultOfRun(path, has);
  const adapters = result === undefined ? await adaptersIn(path) : [];
  if (adapters.length > 0) return { folder: path, is: 'adapters', adapters };
  const isRun = result !== undefined;
  throw inputError('ERR_MODEL_FILE', found === undefined ? 'no such file or folder' : notModel(isRun), {
    where: path,
    remedy: isRun
      ? `Give the run's result: ${result}`
      : "Give a model (a .safetensors file or a diffusers folder), a UNet's folder or an adapter, such as a run's student.",
  });
}

/** What a run has trained, where a path is the run's folder. */
async function resultOfRun(path: string, has: (...names: readonly string[]) => boolean): Promise<string | undefined> {
  const student = join(path, 'student');
  if (has('student', 'config.json') || (await adaptersIn(student)).length > 0) return student;
  // A LoRA among several may be called so, too.
  return has('recipe.json') && has('student.safetensors') ? `${student}.safetensors` : undefined;
}

/** The files of a folder that has adapters alone: the result of a run of several LoRAs. */
async function adaptersIn(folder: string): Promise<readonly string[]> {
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) return [];
  const files = readdirSync(folder).filter((name) => name.endsWith('.safetensors'));
  const paths = files.sort().map((name) => join(folder, name));
  for (const path of paths) if (!(await isAdapter(path))) return [];
  return paths;
}

function notModel(isRun: boolean): string {
  return `is ${isRun ? "a run's folder" : 'neither a model nor a UNet'}: it has neither config.json nor unet/config.json`;
}
