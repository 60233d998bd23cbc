/** Width and height in pixels. */
export interface Size {
  readonly width: number;
  readonly height: number;
}

/** The part of an image that a latent shows: after scaling to cover the size, the crop at (left, top). */
export interface View extends Size {
  /** Pixels cut off on the left of the scaled image. */
  readonly left: number;
  /** Pixels cut off at the top of the scaled image. */
  readonly top: number;
  /** Mirrored left to right, after cropping. */
  readonly flipped: boolean;
}

/** `WxH+left+top`, with `f` appended when flipped. */
export function viewKey({ width, height, left, top, flipped }: View): string {
  return `${width}x${height}+${left}+${top}${flipped ? 'f' : ''}`;
}

/**
 * The size that a view's key begins with.
 *
 * @throws RangeError for a text that is no view
 */
export function sizeOfView(key: string): Size {
  const [, width, height] = /^(\d+)x(\d+)\+/.exec(key) ?? [];
  if (width === undefined || height === undefined) throw new RangeError(`${JSON.stringify(key)} is not a view`);
  return { width: Number(width), height: Number(height) };
}
