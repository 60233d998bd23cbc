import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { isAdapter } from '../adapter/index.ts';
import { inputError } from '../errors.ts';

/** Weights to be measured. */
export interface MeasuredStudent {
  readonly folder: string;
  /**
   * A whole model, which says what its UNet predicts; a UNet's own folder; or an adapter, which makes a student of the
   * recipe's model.
   */
  readonly is: 'model' | 'unet' | 'adapter';
}

/**
 * What is at a path that is to be measured.
 *
 * @throws PotstillError `ERR_MODEL_FILE` when it is neither a model nor a UNet's folder
 */
export async function findStudent(path: string): Promise<MeasuredStudent> {
  const found = statSync(path, { throwIfNoEntry: false });
  const has = (...names: readonly string[]): boolean => existsSync(join(path, ...names));
  if (found !== undefined && (await isAdapter(path))) return { folder: path, is: 'adapter' };
  if (found?.isFile() === true) return { folder: path, is: 'model' };
  if (has('unet', 'config.json')) return { folder: path, is: 'model' };
  if (has('config.json')) return { folder: path, is: 'unet' };
  const result = [['student', 'config.json'], ['student.safetensors']].find((names) => has(...names))?.[0];
  const isRun = result !== undefined;
  throw inputError('ERR_MODEL_FILE', found === undefined ? 'no such file or folder' : notModel(isRun), {
    where: path,
    remedy: isRun
      ? `Give the run's result: ${join(path, result)}`
      : "Give a model (a .safetensors file or a diffusers folder), a UNet's folder or an adapter, such as a run's student.",
  });
}

function notModel(isRun: boolean): string {
  return `is ${isRun ? "a run's folder" : 'neither a model nor a UNet'}: it has neither config.json nor unet/config.json`;
}
