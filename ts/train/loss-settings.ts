import { inspectUnet } from '../cache/inspect.ts';
import { inputError } from '../errors.ts';
import type { LossSettings } from '../methods/loss.ts';
import { hasWeights } from '../methods/weighting.ts';
import type { PredictionKind } from '../native/index.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';

/**
 * How a recipe's student is compared with its targets.
 *
 * @param kind what the student predicts
 * @throws PotstillError `ERR_RECIPE_VALUE` for weights that predictions of its kind have no formula for
 */
export async function lossSettings(
  { student: { model }, training: { loss, weighting, masks } }: ResolvedRecipe,
  kind: PredictionKind,
): Promise<LossSettings> {
  // The ratio of a flow's own times is another one, and no formula here is meant for it.
  const readsSnr = weighting.id !== 'none' || ('schedule' in loss && loss.schedule === 'snr');
  if (!hasWeights(weighting, kind) || (readsSnr && kind === 'flow')) {
    const key = weighting.id === 'none' ? 'training.loss.schedule' : 'training.weighting';
    throw inputError('ERR_RECIPE_VALUE', `the student predicts ${kind}, for which there is no such formula`, {
      where: key,
      remedy: `Leave ${key} out.`,
    });
  }
  const { alphasCumprod } = await inspectUnet(model);
  const bytes = Buffer.from(alphasCumprod, 'hex');
  const snr = (timestep: number): number => {
    const alpha = bytes.readFloatLE(4 * Math.floor(timestep));
    return alpha / (1 - alpha);
  };
  return { distance: loss, weighting, snr, masks };
}
