import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { inputError, toPotstillError } from '../errors.ts';

/**
 * A file that an option names: there, and no folder. Asked before models are loaded, for a slip should cost no minutes.
 *
 * @returns the path as given
 */
export async function requireFile(path: string, option: string): Promise<string> {
  const found = await kindOf(path);
  if (found === 'file') return path;
  const what = found === 'folder' ? 'is a folder where a file is expected' : 'no such file';
  throw inputError('ERR_FILE_NOT_FOUND', what, { where: path, remedy: `Check the path given to ${option}.` });
}

/** Adapters that an option names: a file or a folder each, and there. Asked before models are loaded. */
export async function requireAdapters(adapters: readonly { readonly file: string }[], option: string): Promise<void> {
  for (const { file } of adapters) {
    if ((await kindOf(file)) !== 'nothing') continue;
    throw inputError('ERR_FILE_NOT_FOUND', 'there is no adapter', {
      where: file,
      remedy: `Check the path given to ${option}; a weight follows it after a colon.`,
    });
  }
}

/**
 * A file that is to be written: its folder is there and may be written to, and it is no folder itself. An existing file
 * is replaced.
 *
 * @returns the path as given
 */
export async function requireOutFile(path: string, option = '--out'): Promise<string> {
  if ((await kindOf(path)) === 'folder') {
    throw inputError('ERR_OUT', 'is a folder where a file is to be written', {
      where: path,
      remedy: `Add a file name to the path given to ${option}.`,
    });
  }
  const parent = dirname(resolve(path));
  const found = await kindOf(parent);
  if (found === 'folder') {
    await requireWritable(parent);
    return path;
  }
  const [what, remedy] =
    found === 'file'
      ? [`cannot be written: ${parent} is a file, not a folder`, `Check the path given to ${option}.`]
      : [`cannot be written: there is no folder ${parent}`, `Make it (mkdir -p ${parent}), or choose another place.`];
  throw inputError('ERR_OUT', what, { where: path, remedy });
}

/**
 * A folder that is to be filled: there and writable, or one that can be made.
 *
 * @returns the path as given
 */
export async function requireOutFolder(path: string, option = '--out'): Promise<string> {
  let existing = resolve(path);
  let found = await kindOf(existing);
  while (found === 'nothing' && dirname(existing) !== existing) {
    existing = dirname(existing);
    found = await kindOf(existing);
  }
  if (found === 'folder') {
    await requireWritable(existing);
    return path;
  }
  throw inputError('ERR_OUT', `cannot be a folder: ${existing} is a file`, {
    where: path,
    remedy: `Choose another name for ${option}, or move that file away.`,
  });
}

async function requireWritable(folder: string): Promise<void> {
  try {
    await access(folder, constants.W_OK | constants.X_OK);
  } catch (thrown) {
    throw toPotstillError(thrown);
  }
}

async function kindOf(path: string): Promise<'file' | 'folder' | 'nothing'> {
  try {
    return (await stat(path)).isDirectory() ? 'folder' : 'file';
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return 'nothing';
    throw toPotstillError(thrown);
  }
}
