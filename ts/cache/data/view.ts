/** Width and height in pixels. */
export interface Size {
  readonly width: number;
  readonly height: number;
}

/** The part of an image that a latent shows, as DESIGN.md's sample key writes it. */
export interface View extends Size {
  /** Pixels cut off on the left of the scaled image. */
  readonly left: number;
  /** Pixels cut off at the top of the scaled image. */
  readonly top: number;
  /** Mirrored left to right, after cropping. */
  readonly flipped: boolean;
}

/**
 * The size to which an image is scaled so that it covers the target: one side fits exactly, the other is rounded to the
 * nearest pixel and never below the target.
 */
export function coverSize(image: Size, target: Size): Size {
  const byWidth = image.width * target.height <= image.height * target.width;
  return byWidth
    ? { width: target.width, height: Math.max(target.height, Math.round((image.height * target.width) / image.width)) }
    : {
        width: Math.max(target.width, Math.round((image.width * target.height) / image.height)),
        height: target.height,
      };
}

/** The middle of an image after scaling it to cover the target; an odd rest falls to the right and the bottom. */
export function centreView(image: Size, target: Size, flipped: boolean): View {
  const scaled = coverSize(image, target);
  return {
    width: target.width,
    height: target.height,
    left: Math.floor((scaled.width - target.width) / 2),
    top: Math.floor((scaled.height - target.height) / 2),
    flipped,
  };
}

/** `WxH+left+top`, with `f` appended when flipped. */
export function viewKey({ width, height, left, top, flipped }: View): string {
  return `${width}x${height}+${left}+${top}${flipped ? 'f' : ''}`;
}
