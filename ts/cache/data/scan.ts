import { join } from 'node:path';
import { inputError } from '../../errors.ts';
import { type Progress, silentProgress } from '../../progress.ts';
import { type CaptionLayout, readCaptions } from './captions.ts';
import { type Size, viewKey } from './view.ts';
import { listImages } from './walk.ts';

/** One folder of images with captions, as a recipe's `data` names it, with every choice made. */
export interface DataSource {
  /** Absolute path. */
  readonly images: string;
  readonly captions: CaptionLayout;
  /** Size of the crops in pixels; multiples of 8, the VAE's factor. */
  readonly size: Size;
  /** Adds the mirrored view of every image. */
  readonly flip: boolean;
  readonly repeats: number;
  /** Probability of training on the unconditional text instead of the caption. */
  readonly captionDropout: number;
  /** Whether its images are measured and never trained on. */
  readonly heldOut: boolean;
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
  /** Offsets of the centre crop of the wanted size, in the image scaled to cover it. */
  readonly left: number;
  readonly top: number;
}

/** Reads and decodes an image file once, so that what cannot be read is found before anything is built. */
export type InspectImage = (path: string, size: Size) => Promise<InspectedImage>;

/** Images decoded at a time: enough to keep a disk and some cores busy while few pictures are held. */
const CONCURRENCY = 4;

interface Found extends PlannedView {
  readonly size: Size;
  readonly caption: string;
  readonly source: DataSource;
  readonly sourceIndex: number;
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
    checkSize(source);
    const images = await listImages(source.images);
    const captions = await readCaptions(source.images, images, source.captions);
    using task = (options.progress ?? silentProgress).start(`reading ${source.images}`, {
      total: images.length,
      unit: 'images',
    });
    const inspected = await inParallel(images, CONCURRENCY, async (image) => {
      options.signal?.throwIfAborted();
      const path = join(source.images, image);
      const result = await inspect(path, source.size);
      task.advance();
      return { path, ...result };
    });
    for (const [index, { path, digest, left, top }] of inspected.entries()) {
      if (!files.has(digest)) files.set(digest, path);
      for (const flipped of source.flip ? [false, true] : [false]) {
        const view = viewKey({ ...source.size, left, top, flipped });
        found.push({ image: digest, view, size: source.size, caption: captions[index] ?? '', source, sourceIndex });
      }
    }
  }
  return arrange(found, files);
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
    training: found.map(({ source: { repeats, captionDropout, heldOut }, sourceIndex }, index) => ({
      sample: sampleIndex.get(pairKey(pairs[index] ?? { view: 0, caption: 0 })) ?? 0,
      source: sourceIndex,
      repeats,
      captionDropout,
      heldOut,
    })),
    files,
  };
}

/** Pixels per latent: the VAEs of both model families halve three times. */
const VAE_FACTOR = 8;

function checkSize({ size: { width, height }, images }: DataSource): void {
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
