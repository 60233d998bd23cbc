import { concat, type Engine, Tensor } from '../native/index.ts';

/** What conditions a UNet besides latents and time; B rows. */
export interface Conditioning {
  /** [B, 77 or a multiple, width]. */
  readonly encoderHiddenStates: Tensor;
  /** SDXL: [B, 1280]. */
  readonly textEmbeds?: Tensor | undefined;
  /** SDXL: [B, 6]. */
  readonly timeIds?: Tensor | undefined;
}

/** Width and height in pixels. */
export interface Size {
  readonly width: number;
  readonly height: number;
}

/** What SDXL is told about a picture's size. What is left out is that of a picture taken whole. */
export interface SizeConditioning {
  /** Of the picture before it was cropped: small ones look blurred. */
  readonly original?: Size | undefined;
  /** Pixels cut off at the left and the top. */
  readonly crop?: { readonly left: number; readonly top: number } | undefined;
  /** Of the picture as it is shown. */
  readonly target?: Size | undefined;
}

/** Rows of `first`, then those of `second`. */
export function stack(first: Conditioning, second: Conditioning): Conditioning {
  const join = (a: Tensor | undefined, b: Tensor | undefined): Tensor | undefined =>
    a === undefined || b === undefined ? undefined : concat([a, b]);
  return {
    encoderHiddenStates: concat([first.encoderHiddenStates, second.encoderHiddenStates]),
    textEmbeds: join(first.textEmbeds, second.textEmbeds),
    timeIds: join(first.timeIds, second.timeIds),
  };
}

/** One row's conditioning for `rows` rows. */
export function repeat(conditioning: Conditioning, rows: number): Conditioning {
  const spread = (tensor: Tensor | undefined): Tensor | undefined =>
    tensor?.broadcast([rows, ...tensor.shape.slice(1)]);
  const { encoderHiddenStates, textEmbeds, timeIds } = conditioning;
  return {
    encoderHiddenStates: encoderHiddenStates.broadcast([rows, ...encoderHiddenStates.shape.slice(1)]),
    textEmbeds: spread(textEmbeds),
    timeIds: spread(timeIds),
  };
}

/** Zeros in place of the text: the unconditional that some SDXL models were trained with. Sizes stay. */
export function withoutText({ encoderHiddenStates, textEmbeds, timeIds }: Conditioning): Conditioning {
  return { encoderHiddenStates: encoderHiddenStates.scale(0), textEmbeds: textEmbeds?.scale(0), timeIds };
}

/** SDXL's `time_ids`: original height and width, crop from the top and the left, target height and width; [1, 6]. */
export function sizeIds(engine: Engine, size: Size, conditioning: SizeConditioning = {}): Tensor {
  const { original = size, crop = { left: 0, top: 0 }, target = size } = conditioning;
  const ids = [original.height, original.width, crop.top, crop.left, target.height, target.width];
  return Tensor.fromArray(engine, ids, [1, ids.length]);
}
