import { join } from 'node:path';
import { inputError } from '../errors.ts';
import { inspectTensors } from '../native/tensor-file.ts';

/** What files of the files layout say of their teacher, for which that layout has no tensors; an export writes it. */
export interface FilesFacts {
  /** What the predictions are of, with a file that says so; empty where none does. */
  readonly predictions: ReadonlyMap<string, string>;
  /** SDXL's size conditioning of each file, where it says one. */
  readonly timeIds: readonly (readonly number[] | undefined)[];
  /** Whether floats of a file have more digits than f16 keeps. */
  readonly isF32: boolean;
}

/** Names in the metadata, as the export gives them. */
const PREDICTION = 'potstill.prediction';
const TIME_IDS = 'potstill.time_ids';

/** Height, width, crop top, crop left, target height, target width. */
const SIZES = 6;

/**
 * Reads the headers of a teacher's files.
 *
 * @throws PotstillError `ERR_CACHE_ENTRY` for metadata that say nothing
 */
export async function readFilesFacts(
  folder: string,
  names: readonly string[],
  signal: AbortSignal,
): Promise<FilesFacts> {
  const predictions = new Map<string, string>();
  const timeIds: (readonly number[] | undefined)[] = [];
  let isF32 = false;
  for (const name of names) {
    signal.throwIfAborted();
    const file = join(folder, `${name}.safetensors`);
    const { metadata, tensors } = await inspectTensors(file);
    const prediction = metadata[PREDICTION];
    if (prediction !== undefined && !predictions.has(prediction)) predictions.set(prediction, file);
    timeIds.push(metadata[TIME_IDS] === undefined ? undefined : parseTimeIds(metadata[TIME_IDS], file));
    isF32 ||= tensors.some(({ dtype }) => dtype.toUpperCase() === 'F32');
  }
  return { predictions, timeIds, isF32 };
}

function parseTimeIds(text: string, file: string): readonly number[] {
  const sizes = text.split(',').map((size) => (size.trim() === '' ? Number.NaN : Number(size)));
  if (sizes.length === SIZES && sizes.every(Number.isFinite)) return sizes;
  throw inputError('ERR_CACHE_ENTRY', `${TIME_IDS} in its metadata is ${JSON.stringify(text)}, not ${SIZES} numbers`, {
    where: file,
    remedy: 'Export it again.',
  });
}
