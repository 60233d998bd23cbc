import type { Size } from '../cache/data/view.ts';

/** How pictures of several shapes are cropped to few sizes. */
export interface AspectOptions {
  /** Both sides are multiples of it. */
  readonly divisor: number;
  /** Shortest and longest side. */
  readonly min: number;
  readonly max: number;
}

/**
 * The sizes of at most the area of `size` whose sides are multiples of the divisor: the largest square, and for every
 * width from `min` the greatest height that fits, both ways round (kohya's buckets). No two alike, by width and height.
 */
export function aspectSizes(size: Size, { divisor, min, max }: AspectOptions): readonly Size[] {
  const area = size.width * size.height;
  const whole = (side: number): number => Math.floor(side / divisor) * divisor;
  const square = whole(Math.sqrt(area));
  const found = new Map<string, Size>();
  const add = (width: number, height: number): void => {
    found.set(`${width}x${height}`, { width, height });
  };
  if (square >= min && square <= max) add(square, square);
  for (let width = whole(min + divisor - 1); width <= max; width += divisor) {
    const height = Math.min(whole(max), whole(area / width));
    if (height < min) continue;
    add(width, height);
    add(height, width);
  }
  return [...found.values()].sort((a, b) => a.width - b.width || a.height - b.height);
}
