import { PotstillError } from '../errors.ts';

/**
 * Runs a computation on what was read of a file, so that an input which does not fit is reported with the file's name:
 * the person who gave it knows the file, not the operation. Reads what it computes: an operation's failure surfaces there.
 */
export async function inFile<T>(file: string, remedy: string, compute: () => Promise<T>): Promise<T> {
  try {
    return await compute();
  } catch (thrown) {
    if (!(thrown instanceof PotstillError) || thrown.kind !== 'input') throw thrown;
    throw new PotstillError({ ...thrown.toJSON(), where: file, remedy, cause: thrown });
  }
}
