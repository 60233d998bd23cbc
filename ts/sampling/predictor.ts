import { concat, type PredictionKind, type Schedule, type Tensor, type Unet } from '../native/index.ts';
import { type Conditioning, stack } from './conditioning.ts';

/**
 * Predicts at noisy latents of the form √ᾱ·x0 + √(1 − ᾱ)·ε, [B, 4, h, w], and one timestep for all rows. Called once a
 * step; what it makes belongs to the step's scope.
 */
export type Predictor = (sample: Tensor, timesteps: Float64Array) => Tensor;

/**
 * A UNet under classifier-free guidance, u + g·(c − u). At g = 1, or without anything to lead away from, it costs one
 * forward; else one of twice as many rows, the unconditional ones first.
 */
export function guided(unet: Unet, cond: Conditioning, uncond: Conditioning | undefined, guidance: number): Predictor {
  if (uncond === undefined || guidance === 1) {
    return (sample, timesteps) => unet.forward({ sample, timesteps, ...cond }).outputs.prediction;
  }
  return (sample, timesteps) => {
    const rows = sample.shape[0] ?? 0;
    const both = { sample: concat([sample, sample]), timesteps, ...stack(uncond, cond) };
    const { prediction } = unet.forward(both).outputs;
    const [away, towards] = [prediction.slice(0, 0, rows), prediction.slice(0, rows, rows)];
    return away.add(towards.sub(away).scale(guidance));
  };
}

/** Predictions of one kind read as another. */
export function asKind(predict: Predictor, from: PredictionKind, to: PredictionKind, schedule: Schedule): Predictor {
  if (from === to) return predict;
  return (sample, timesteps) => schedule.convert(predict(sample, timesteps), from, to, sample, timesteps);
}

/** The mean of several predictors of one kind; their weights are normalised. */
export function averaged(predictors: readonly { readonly predict: Predictor; readonly weight: number }[]): Predictor {
  const [first, ...rest] = predictors;
  if (first === undefined) throw new RangeError('an average needs at least one predictor');
  if (rest.length === 0) return first.predict;
  const total = predictors.reduce((sum, { weight }) => sum + weight, 0);
  return (sample, timesteps) => {
    const share = ({ predict, weight }: (typeof predictors)[number]): Tensor =>
      predict(sample, timesteps).scale(weight / total);
    return rest.reduce((sum, one) => sum.add(share(one)), share(first));
  };
}
