import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { inputError } from '../../errors.ts';
import { IMAGE_ENDINGS, isImageName } from './image-names.ts';

/** Depth of folders below an image folder: nobody sorts pictures deeper, and a cycle of mounts ends here. */
const MAX_DEPTH = 16;

/**
 * Every image below a folder, as paths relative to it with `/` between the parts, in the order of their code units (the
 * same on every system). Names that begin with a dot are left out; links to files are followed, links to folders not.
 *
 * @param remedy what to do when there are none: where the folder was named
 * @throws PotstillError `ERR_DATA_NO_FOLDER`, `ERR_DATA_NO_IMAGES`
 */
export async function listImages(
  folder: string,
  remedy = 'Check `data[].images` in the recipe; a relative path starts at the recipe file.',
): Promise<string[]> {
  const info = await stat(folder).catch(() => undefined);
  if (info === undefined || !info.isDirectory()) {
    throw inputError(
      'ERR_DATA_NO_FOLDER',
      info === undefined ? 'no such folder of images' : 'is not a folder of images',
      {
        where: folder,
        remedy,
      },
    );
  }
  const images: string[] = [];
  await collect(folder, '', 0, images);
  if (images.length === 0) {
    throw inputError('ERR_DATA_NO_IMAGES', `holds no image (${IMAGE_ENDINGS.join(', ')})`, {
      where: folder,
      remedy,
    });
  }
  return images.sort();
}

async function collect(root: string, below: string, depth: number, images: string[]): Promise<void> {
  if (depth > MAX_DEPTH) {
    throw inputError('ERR_DATA_TOO_DEEP', `has more than ${MAX_DEPTH} levels of folders`, { where: join(root, below) });
  }
  for (const entry of await readdir(join(root, below), { withFileTypes: true })) {
    if (entry.name.startsWith('.')) continue;
    const relative = below === '' ? entry.name : `${below}/${entry.name}`;
    if (entry.isDirectory()) await collect(root, relative, depth + 1, images);
    else if (isImageName(entry.name) && (entry.isFile() || entry.isSymbolicLink())) images.push(relative);
  }
}
