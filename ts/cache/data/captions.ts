import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { inputError } from '../../errors.ts';
import { readText } from './text-file.ts';

/** Where a folder keeps its captions: a `.txt` beside each image, or one `.jsonl` with a line per image. */
export type CaptionLayout = 'txt' | 'jsonl';

/** One caption: text encoders see 77 tokens, so 64 KiB is a thousand times more than any caption. */
const MAX_CAPTION_BYTES = 1 << 16;
/** One jsonl of captions: 256 MiB is a million images at 256 bytes each. */
const MAX_JSONL_BYTES = 1 << 28;
/** Half of a character, which JSON's escapes can spell: in Unicode mode, whole pairs do not match. */
const LONE_SURROGATE = /\p{Surrogate}/u;
/** Names of the jsonl, in the order in which they are looked for; the second is the Hub's for image folders. */
const JSONL_NAMES = ['captions.jsonl', 'metadata.jsonl'] as const;

/**
 * The caption of every image, in the order of the images. Surrounding white space is dropped; the text is otherwise kept
 * as it stands (the tokenizer lower-cases and collapses white space). An empty caption counts as missing.
 *
 * @param images paths relative to the folder, with `/` between the parts
 * @throws PotstillError naming the file: `ERR_DATA_NO_CAPTION`, `ERR_DATA_NO_JSONL`, `ERR_DATA_JSONL`
 */
export async function readCaptions(
  folder: string,
  images: readonly string[],
  layout: CaptionLayout,
): Promise<string[]> {
  return layout === 'txt' ? readSidecars(folder, images) : readJsonl(folder, images);
}

async function readSidecars(folder: string, images: readonly string[]): Promise<string[]> {
  const captions: string[] = [];
  for (const image of images) {
    const path = join(folder, image.replace(/\.[^./]*$/, '.txt'));
    const exists = (await stat(path).catch(() => undefined))?.isFile() === true;
    const caption = exists ? (await readText(path, MAX_CAPTION_BYTES)).trim() : '';
    if (caption === '') {
      throw missingCaption(
        join(folder, image),
        exists ? `${path} is empty` : `there is no ${path}`,
        `Write it to ${path}.`,
      );
    }
    captions.push(caption);
  }
  return captions;
}

async function readJsonl(folder: string, images: readonly string[]): Promise<string[]> {
  const path = await findJsonl(folder);
  const known = new Set(images);
  const byImage = new Map<string, string>();
  for (const [index, line] of (await readText(path, MAX_JSONL_BYTES)).split('\n').entries()) {
    if (line.trim() === '') continue;
    const where = `${path}:${index + 1}`;
    const { file, caption } = parseLine(line, where);
    if (!known.has(file)) {
      throw inputError('ERR_DATA_JSONL', `names an image that the folder does not hold: ${JSON.stringify(file)}`, {
        where,
        remedy: 'Name files relative to the folder of the jsonl, with / between the parts.',
      });
    }
    if (byImage.has(file)) {
      throw inputError('ERR_DATA_JSONL', `${JSON.stringify(file)} has a caption already`, {
        where,
        remedy: 'Keep one line per image.',
      });
    }
    byImage.set(file, caption);
  }
  return images.map((image) => {
    const caption = byImage.get(image);
    if (caption === undefined || caption === '') {
      throw missingCaption(join(folder, image), `${path} has no text for it`, `Add a line for it to ${path}.`);
    }
    return caption;
  });
}

async function findJsonl(folder: string): Promise<string> {
  for (const name of JSONL_NAMES) {
    const path = join(folder, name);
    if ((await stat(path).catch(() => undefined))?.isFile() === true) return path;
  }
  throw inputError('ERR_DATA_NO_JSONL', `holds no ${JSONL_NAMES.join(' or ')}`, {
    where: folder,
    remedy: 'Write one line per image, {"file": "…", "caption": "…"}, or set `captions` to "txt".',
  });
}

/** `file` and `caption`, or the Hub's `file_name` and `text`. */
function parseLine(line: string, where: string): { file: string; caption: string } {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw inputError('ERR_DATA_JSONL', 'is not JSON', { where, remedy: 'Write one JSON object per line.', cause });
  }
  const record = typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
  const file = record['file'] ?? record['file_name'];
  const caption = record['caption'] ?? record['text'];
  if (typeof file !== 'string' || typeof caption !== 'string') {
    throw inputError('ERR_DATA_JSONL', 'lacks the strings "file" and "caption"', {
      where,
      remedy: 'Write {"file": "…", "caption": "…"}.',
    });
  }
  if (LONE_SURROGATE.test(caption)) {
    throw inputError('ERR_DATA_JSONL', 'has half of a character in the caption, which no tokenizer knows', {
      where,
      remedy: 'Write the character itself, or both halves of its escape.',
    });
  }
  return { file: file.replace(/^\.\//, ''), caption: caption.trim() };
}

function missingCaption(image: string, reason: string, remedy: string): Error {
  return inputError('ERR_DATA_NO_CAPTION', `has no caption: ${reason}`, { where: image, remedy });
}
