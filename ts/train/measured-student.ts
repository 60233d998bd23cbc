import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { inputError } from '../errors.ts';

/** Weights to be measured. */
export interface MeasuredStudent {
  readonly folder: string;
  /** Whether it is a whole model, which says what its UNet predicts, or a UNet's own folder. */
  readonly isModel: boolean;
}

/**
 * What is at a path that is to be measured.
 *
 * @throws PotstillError `ERR_MODEL_FILE` when it is neither a model nor a UNet's folder
 */
export function findStudent(path: string): MeasuredStudent {
  const found = statSync(path, { throwIfNoEntry: false });
  const has = (...names: readonly string[]): boolean => existsSync(join(path, ...names));
  if (found?.isFile() === true || has('unet', 'config.json')) return { folder: path, isModel: true };
  if (has('config.json')) return { folder: path, isModel: false };
  const isRun = has('student', 'config.json');
  throw inputError('ERR_MODEL_FILE', found === undefined ? 'no such file or folder' : notModel(isRun), {
    where: path,
    remedy: isRun
      ? `Give the run's result: ${join(path, 'student')}`
      : "Give a model (a .safetensors file or a diffusers folder) or a UNet's folder, such as a run's student.",
  });
}

function notModel(isRun: boolean): string {
  return `is ${isRun ? "a run's folder" : 'neither a model nor a UNet'}: it has neither config.json nor unet/config.json`;
}
