import { permutation } from '../../data/order.ts';
import { deriveSeed } from '../../data/philox.ts';

/** How captions of tags are shuffled. */
export interface ShuffleOptions {
  /** Orders per caption; each is encoded and predicted with. */
  readonly variants: number;
  /** Tags at the beginning that stay where they are. */
  readonly keep: number;
  /** What stands between tags. */
  readonly separator: string;
}

/**
 * The orders of a caption that are trained with, no two alike: tags beyond the first `keep` in orders that depend on the
 * seed and the caption alone. A caption that has fewer orders than `variants` gives fewer.
 */
export function shuffledCaptions(
  caption: string,
  { variants, keep, separator }: ShuffleOptions,
  seed: number,
): readonly string[] {
  const tags = caption
    .split(separator)
    .map((tag) => tag.trim())
    .filter((tag) => tag !== '');
  const joint = separator.trim() === '' ? separator : `${separator.trim()} `;
  const [kept, moved] = [tags.slice(0, keep), tags.slice(keep)];
  const orders = Array.from({ length: variants }, (_, variant) => {
    const order = permutation(deriveSeed('caption', seed, caption), variant, moved.length);
    return [...kept, ...[...order].map((index) => moved[index] ?? '')].join(joint);
  });
  return [...new Set(orders)];
}
