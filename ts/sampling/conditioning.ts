import { concat, type Engine, Tensor } from '../native/index.ts';

/** What conditions a UNet besides latents and time; B rows. */
export interface Conditioning {
  /** [B, 77, width]. */
  readonly encoderHiddenStates: Tensor;
  /** SDXL: [B, 1280]. */
  readonly textEmbeds?: Tensor | undefined;
  /** SDXL: [B, 6]. */
  readonly timeIds?: Tensor | undefined;
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

/** SDXL's `time_ids` of a picture taken whole: original size, no crop, target size; [1, 6]. */
export function wholePictureTimeIds(engine: Engine, height: number, width: number): Tensor {
  return Tensor.fromArray(engine, [height, width, 0, 0, height, width], [1, 6]);
}
