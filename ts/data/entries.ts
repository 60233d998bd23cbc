import { seedOf } from './philox.ts';

/** What training knows of one cached sample: an image's view with one of its captions. */
export interface Sample {
  /** Key of the sample in the cache, for messages: never a path. */
  readonly key: string;
  /** SHA-256 of the image file, in hex: what a hold-out goes by, so that no view of a held-out image is trained on. */
  readonly image: string;
  /** How often the sample occurs in an epoch, at least 1. */
  readonly repeats: number;
  /** Probability of training on the unconditional text instead of the caption, 0 to 1. */
  readonly captionDropout: number;
  /** Names the size of the latents: a batch is one tensor, so its rows are of one size. */
  readonly size: string;
  /** Which of the recipe's methods it is trained by; 0, its own, when left out. Rows of a batch share it. */
  readonly part?: number | undefined;
  /** Factor on its loss; 1 when left out. */
  readonly lossWeight?: number | undefined;
  /** What of the image counts. Rows of a batch have all a mask, or none. */
  readonly mask?: unknown;
  /** Index of the sample that it is another order of the caption of: it takes its place now and then. */
  readonly variantOf?: number | undefined;
}

/** Names what a batch's rows have in common. */
export function bucketOf({ size, part = 0, mask }: Pick<Sample, 'size' | 'part' | 'mask'>): string {
  const masked = mask === undefined ? '' : '|masked';
  return `${part === 0 ? size : `${size}|${part}`}${masked}`;
}

/** One thing to train on in an epoch. */
export interface Entry {
  /** Index into the samples. */
  readonly sample: number;
  /** Index of the cached (timestep, noise) draw; 0 for a method that draws afresh. */
  readonly draw: number;
}

/**
 * The entries of one epoch: every sample as often as it is repeated, with each of its cached draws.
 *
 * @param draws cached draws per sample, or 1 when the method draws noise and timestep afresh
 */
export function expandEntries(samples: readonly Sample[], among: readonly number[], draws: number): Entry[] {
  const entries: Entry[] = [];
  for (const sample of among) {
    const repeats = samples[sample]?.repeats ?? 0;
    for (let repeat = 0; repeat < repeats; repeat += 1) {
      for (let draw = 0; draw < draws; draw += 1) entries.push({ sample, draw });
    }
  }
  return entries;
}

/** Indices of the samples to train on and of those held out. */
export interface Split {
  readonly train: readonly number[];
  readonly heldOut: readonly number[];
}

/**
 * Holds out a fraction of the images (not of the samples: a flipped view would leak). Which ones depends on the seed and
 * on each image's digest alone, so adding images moves none from one side to the other by more than the count demands.
 * At least one image stays on either side when the fraction is above 0 and there are two images.
 */
export function holdOut(samples: readonly Sample[], fraction: number, seed: number): Split {
  const images = [...new Set(samples.map((sample) => sample.image))];
  if (fraction <= 0 || images.length < 2) return { train: samples.map((_, index) => index), heldOut: [] };
  const ranked = images
    .map((image) => ({ image, rank: seedOf('hold-out', seed, image) }))
    .sort((a, b) => (a.rank < b.rank ? -1 : 1));
  const count = Math.min(images.length - 1, Math.max(1, Math.round(images.length * fraction)));
  const chosen = new Set(ranked.slice(0, count).map(({ image }) => image));
  const train: number[] = [];
  const heldOut: number[] = [];
  for (const [index, sample] of samples.entries()) (chosen.has(sample.image) ? heldOut : train).push(index);
  return { train, heldOut };
}

/**
 * Holds out the images of the samples that are marked: an image that other samples show too (another view, or the same
 * file elsewhere) is not trained on there either.
 */
export function holdOutMarked(samples: readonly (Pick<Sample, 'image'> & { readonly heldOut: boolean })[]): Split {
  const images = new Set(samples.flatMap(({ image, heldOut }) => (heldOut ? image : [])));
  const indices = [...samples.entries()];
  return {
    train: indices.flatMap(([index, { image }]) => (images.has(image) ? [] : index)),
    heldOut: indices.flatMap(([index, { heldOut }]) => (heldOut ? index : [])),
  };
}
