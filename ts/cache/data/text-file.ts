import { readFile, stat } from 'node:fs/promises';
import { inputError } from '../../errors.ts';

/**
 * A text file as a string, without a byte order mark.
 *
 * @param limit bytes; a larger file is not the one that was meant
 * @throws PotstillError `ERR_DATA_TEXT_TOO_LARGE`, `ERR_DATA_NOT_UTF8`, and the system's error when it cannot be read
 */
export async function readText(path: string, limit: number): Promise<string> {
  const { size } = await stat(path);
  if (size > limit) {
    throw inputError('ERR_DATA_TEXT_TOO_LARGE', `is ${size} bytes long; captions take at most ${limit}`, {
      where: path,
      remedy: 'Check that the file holds captions.',
    });
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(await readFile(path));
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause;
    throw inputError('ERR_DATA_NOT_UTF8', 'is not UTF-8 text', {
      where: path,
      remedy: 'Save the file as UTF-8.',
      cause,
    });
  }
}
