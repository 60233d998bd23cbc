import { isImageName } from '../cache/data/image-names.ts';
import { type FilesNaming, imagesJson, recomputeJson } from '../cache/verify-requests.ts';
import { inputError } from '../errors.ts';
import type { PickedFile, PickedFolder } from './files/picked.ts';
import type { CacheInput, PageRecomputation, PageRequest } from './messages.ts';

/** All that the user chose. */
export interface PageOptions {
  readonly cache: CacheInput;
  /** Folder of the images. */
  readonly images: PickedFolder | undefined;
  readonly naming: FilesNaming;
  /** Folders, or files alone (whose path is empty). */
  readonly models: readonly PickedFolder[];
  /** Of every part, where there are models. */
  readonly entries: number;
  /** A new one when left out. */
  readonly nonce: string | undefined;
}

/** What the worker is to do. */
export function pageRequest({ cache, images, naming, models, entries, nonce }: PageOptions): PageRequest {
  const pictures = images === undefined ? undefined : imagesOf(images);
  return {
    cache,
    images:
      pictures &&
      imagesJson(
        pictures.map(({ path }) => path),
        naming,
      ),
    recomputation: models.length === 0 ? undefined : recomputationOf(models, pictures ?? [], { entries, nonce }),
  };
}

/** As the command line finds them: images by their names, but none whose name, or folder's, begins with a dot. */
function imagesOf({ name, files }: PickedFolder): readonly PickedFile[] {
  const images = files.filter(({ path }) => isImageName(path) && !path.split('/').some((part) => part.startsWith('.')));
  if (images.length === 0) {
    throw inputError('ERR_DATA_NO_IMAGES', 'holds no image', {
      where: name,
      remedy: 'Choose the folder of the images.',
    });
  }
  return images.toSorted((a, b) => (a.path < b.path ? -1 : 1));
}

function recomputationOf(
  models: readonly PickedFolder[],
  images: readonly PickedFile[],
  { entries, nonce }: Pick<PageOptions, 'entries' | 'nonce'>,
): PageRecomputation {
  const files: PickedFile[] = [];
  const put = (place: string, { path, file }: PickedFile): string => {
    const at = path === '' ? place : `${place}/${path}`;
    files.push({ path: at, file });
    return at;
  };
  // Two folders may have one name; what errors show begins with it.
  const places = models.map(({ name }, index) => (index === 0 ? name : `${name} (${index + 1})`));
  for (const [index, model] of models.entries()) for (const file of model.files) put(places[index] ?? '', file);
  const pictures = images.map((image) => put('images', image));
  return { request: recomputeJson({ entries, nonce, models: places, images: pictures }), files };
}
