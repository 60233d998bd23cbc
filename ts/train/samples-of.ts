import type { DataScan } from '../cache/data/scan.ts';
import type { Sample } from '../data/entries.ts';

/** What is trained on, from a scan of the recipe's data: one sample per source and view of an image. */
export function samplesOf({ views, captions, samples, training }: DataScan): Sample[] {
  return training.map(({ sample, repeats, captionDropout }) => {
    const { view: viewIndex, caption } = samples[sample] ?? { view: -1, caption: -1 };
    const { image = '', view = '' } = views[viewIndex] ?? {};
    return { key: `${image}|${view}|${captions[caption] ?? ''}`, image, repeats, captionDropout };
  });
}
