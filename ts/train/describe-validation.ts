import type { LossFigures } from './validation.ts';

/** Significant digits of a loss in a message. */
const SHOWN_DIGITS = 4;

/** Losses on held-out samples, in words. */
export function describeValidation({ loss, shuffledCaptions }: LossFigures): string {
  const shuffled =
    shuffledCaptions === undefined ? '' : `, with shuffled captions ${shuffledCaptions.toPrecision(SHOWN_DIGITS)}`;
  return `validation loss ${loss.toPrecision(SHOWN_DIGITS)}${shuffled}`;
}
