import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { inputError } from '../../errors.ts';
import { type Progress, silentProgress } from '../../progress.ts';
import { type CaptionLayout, readCaptions } from './captions.ts';
import { type ShuffleOptions, shuffledCaptions } from './shuffle.ts';
import { type Size, viewKey } from './view.ts';
import { listImages } from './walk.ts';

/** One folder of images with captions, as a recipe's `data` names it, with every choice made. */
export interface DataSource {
  /** Absolute path. */
  readonly images: string;
  readonly captions: CaptionLayout;
  /** Sizes of the crops in pixels, of which each image takes that of its shape; multiples of 8, the VAE's factor. */
  readonly sizes: readonly Size[];
  /** Adds the mirrored view of every image. */
  readonly flip: boolean;
  readonly repeats: number;
  /** Probability of training on the unconditional text instead of the caption. */
  readonly captionDropout: number;
  /** Whether its images are measured and never trained on. */
  readonly heldOut: boolean;
  /** Orders that its captions' tags are trained in; as they are when left out. */
  readonly shuffle?: (ShuffleOptions & { readonly seed: number }) | undefined;
  /** Folder with a mask for every image, under the image's name ending in .png. */
  readonly masks?: string | undefined;
}

/** What of an image counts: white is learned. */
export interface Mask {
  readonly path: string;
  /** SHA-256 of the file, in hex. */
  readonly digest: string;
}

/** A part of an image: what one latent record holds. */
export interface PlannedView {
  /** SHA-256 of the image file, in hex. */
  readonly image: string;
  /** `WxH+left+top`, with `f` appended when flipped. */
  readonly view: string;
}

/** A view with a caption, as indices into the scan's lists: what one teacher predicts on, K draws each. */
export interface PlannedSample {
  readonly view: number;
  readonly caption: number;
}

/** What training may draw or measure: a sample, and how its source wants it used. */
export interface TrainingSample {
  /** Index into {@link DataScan.samples}. */
  readonly sample: number;
  /** Index of the source, in the order of the recipe. */
  readonly source: number;
  readonly repeats: number;
  readonly captionDropout: number;
  readonly heldOut: boolean;
  readonly mask?: Mask | undefined;
  /** Index of the one in the list that it is another order of the caption of; it takes that one's place now and then. */
  readonly variantOf?: number | undefined;
}

/** The data of a recipe, without duplicates and in an order that depends on content only, not on names or places. */
export interface DataScan {
  /** Sorted by size, image and view. */
  readonly views: readonly PlannedView[];
  /** Distinct captions, sorted; the first is the empty one, which stands for the unconditional text. */
  readonly captions: readonly string[];
  /** Distinct pairs of view and caption, sorted by both. */
  readonly samples: readonly PlannedSample[];
  /** One per source and view of an image, in the order of the recipe and of the file names. */
  readonly training: readonly TrainingSample[];
  /** Where each image lies now, by its digest. */
  readonly files: ReadonlyMap<string, string>;
}

/** What planning must know of an image. */
export interface InspectedImage {
  /** SHA-256 of the file, in hex. */
  readonly digest: string;
  /** That of the wanted sizes whose shape is nearest to the image's. */
  readonly width: number;
  readonly height: number;
  /** Offsets of the centre crop of that size, in the image scaled to cover it. */
  readonly left: number;
  readonly top: number;
}

/** Reads and decodes an image file once, so that what cannot be read is found before anything is built. */
export type InspectImage = (path: string, sizes: readonly Size[]) => Promise<InspectedImage>;

/** Images decoded at a time: enough to keep a disk and some cores busy while few pictures are held. */
const CONCURRENCY = 4;

interface Found extends PlannedView {
  readonly size: Size;
  readonly caption: string;
  readonly source: DataSource;
  readonly sourceIndex: number;
  readonly mask: Mask | undefined;
  readonly variantOf: number | undefined;
}

/**
 * Finds and digests the images of all sources and pairs them with their captions.
 *
 * @throws PotstillError naming the file or folder, for whatever cannot be used
 */
export async function scanData(
  sources: readonly DataSource[],
  inspect: InspectImage,
  options: { readonly progress?: Progress | undefined; readonly signal?: AbortSignal | undefined } = {},
): Promise<DataScan> {
  const files = new Map<string, string>();
  const found: Found[] = [];
  for (const [sourceIndex, source] of sources.entries()) {
    for (const size of source.sizes) checkSize(source, size);
    const images = await listImages(source.images);
    const captions = await readCaptions(source.images, images, source.captions);
    using task = (options.progress ?? silentProgress).start(`reading ${source.images}`, {
      total: images.length,
      unit: 'images',
    });
    const inspected = await inParallel(images, CONCURRENCY, async (image) => {
      options.signal?.throwIfAborted();
      const path = join(source.images, image);
      const result = await inspect(path, source.sizes);
      const mask = source.masks === undefined ? undefined : await findMask(source.masks, image, result, inspect);
      task.advance();
      return { path, mask, ...result };
    });
    for (const [index, { path, digest, mask, left, top, width, height }] of inspected.entries()) {
      if (!files.has(digest)) files.set(digest, path);
      const caption = captions[index] ?? '';
      const { shuffle } = source;
      const orders = shuffle === undefined ? [caption] : shuffledCaptions(caption, shuffle, shuffle.seed);
      for (const flipped of source.flip ? [false, true] : [false]) {
        const size = { width, height };
        const shown = {
          image: digest,
          view: viewKey({ ...size, left, top, flipped }),
          size,
          source,
          sourceIndex,
          mask,
        };
        const first = found.length;
        for (const [order, text] of orders.entries()) {
          found.push({ ...shown, caption: text, variantOf: order === 0 ? undefined : first });
        }
      }
    }
  }
  return arrange(found, files);
}

/**
 * The mask of an image.
 *
 * @throws PotstillError `ERR_DATA_MASK` when there is none, or one of another shape than the image
 */
async function findMask(
  folder: string,
  image: string,
  { width, height, left, top }: InspectedImage,
  inspect: InspectImage,
): Promise<Mask> {
  const path = join(folder, image.replace(/\.[^./]*$/, '.png'));
  if ((await stat(path).catch(() => undefined))?.isFile() !== true) {
    throw inputError('ERR_DATA_MASK', `${image} has no mask: there is no ${path}`, {
      where: folder,
      remedy: 'Draw one (white is learned, black is not), or leave data[].masks out.',
    });
  }
  const mask = await inspect(path, [{ width, height }]);
  if (mask.left === left && mask.top === top) return { path, digest: mask.digest };
  throw inputError('ERR_DATA_MASK', `has another shape than its image ${image}`, {
    where: path,
    remedy: 'Draw it over the image, in the same number of pixels.',
  });
}

function arrange(found: readonly Found[], files: ReadonlyMap<string, string>): DataScan {
  const keyOf = ({ image, view }: PlannedView): string => `${image}|${view}`;
  const distinct = new Map(found.map((one) => [keyOf(one), one]));
  const views = [...distinct.values()].sort(
    (a, b) =>
      a.size.width - b.size.width ||
      a.size.height - b.size.height ||
      compare(a.image, b.image) ||
      compare(a.view, b.view),
  );
  const captions = ['', ...[...new Set(found.map(({ caption }) => caption))].filter((text) => text !== '').sort()];
  const viewIndex = new Map(views.map((view, index) => [keyOf(view), index]));
  const captionIndex = new Map(captions.map((caption, index) => [caption, index]));
  const pairs = found.map((one) => ({
    view: viewIndex.get(keyOf(one)) ?? 0,
    caption: captionIndex.get(one.caption) ?? 0,
  }));
  const pairKey = ({ view, caption }: PlannedSample): string => `${view}|${caption}`;
  const samples = [...new Map(pairs.map((pair) => [pairKey(pair), pair])).values()].sort(
    (a, b) => a.view - b.view || a.caption - b.caption,
  );
  const sampleIndex = new Map(samples.map((sample, index) => [pairKey(sample), index]));
  return {
    views: views.map(({ image, view }) => ({ image, view })),
    captions,
    samples,
    training: found.map(({ source: { repeats, captionDropout, heldOut }, sourceIndex, mask, variantOf }, index) => ({
      sample: sampleIndex.get(pairKey(pairs[index] ?? { view: 0, caption: 0 })) ?? 0,
      source: sourceIndex,
      repeats,
      captionDropout,
      heldOut,
      ...(mask === undefined ? {} : { mask }),
      ...(variantOf === undefined ? {} : { variantOf }),
    })),
    files,
  };
}

/** Pixels per latent: the VAEs of both model families halve three times. */
const VAE_FACTOR = 8;

function checkSize({ images }: DataSource, { width, height }: Size): void {
  if (width % VAE_FACTOR === 0 && height % VAE_FACTOR === 0 && width > 0 && height > 0) return;
  throw inputError('ERR_DATA_SIZE', `${width}×${height} is not a size in multiples of ${VAE_FACTOR} pixels`, {
    where: images,
    remedy: `Set data[].size to [${Math.max(8, width - (width % 8))}, ${Math.max(8, height - (height % 8))}], for example.`,
  });
}

/** Order of code units: the same on every system and in every locale. */
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Maps with at most `limit` calls under way; the results keep the order of the items. The first failure ends it. */
async function inParallel<In, Out>(
  items: readonly In[],
  limit: number,
  work: (item: In) => Promise<Out>,
): Promise<Out[]> {
  const results: Out[] = [];
  const queue = items.entries();
  const worker = async (): Promise<void> => {
    for (const [index, item] of queue) results[index] = await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  return results;
}
