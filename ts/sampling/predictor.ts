import {
  concat,
  type NoiseLevel,
  type PredictionKind,
  type Schedule,
  type Tensor,
  type Unet,
} from '../native/index.ts';
import { type Conditioning, stack } from './conditioning.ts';

/** Where a prediction is asked for. */
export interface SamplingPoint {
  /** Counted from 0. */
  readonly step: number;
  /** What the sample is: signal·x0 + noise·ε. */
  readonly level: NoiseLevel;
}

/**
 * Predicts at noisy latents, [B, 4, h, w], and one timestep for all rows. Called once a step; what it makes belongs to the
 * step's scope.
 */
export type Predictor = (sample: Tensor, timesteps: Float64Array, at: SamplingPoint) => Tensor;

/** Classifier-free guidance. */
export interface GuidanceOptions {
  /** Scale g of u + g·(c − u); 1 is none. */
  readonly guidance: number;
  /** Share by which the guided prediction is brought back to the conditional one's deviation (Lin et al. 2023), 0 to 1. */
  readonly rescale?: number | undefined;
}

/**
 * A UNet under classifier-free guidance. At a scale of 1, or without anything to lead away from, it costs one forward; else
 * one of twice as many rows, the unconditional ones first, or two where the texts differ in length.
 */
export function guided(
  unet: Unet,
  cond: Conditioning,
  uncond: Conditioning | undefined,
  options: number | GuidanceOptions,
): Predictor {
  const { guidance, rescale = 0 } = typeof options === 'number' ? { guidance: options } : options;
  const alone = (told: Conditioning, sample: Tensor, timesteps: Float64Array): Tensor =>
    unet.forward({ sample, timesteps, ...told }).outputs.prediction;
  if (uncond === undefined || guidance === 1) return (sample, timesteps) => alone(cond, sample, timesteps);
  const lead = (away: Tensor, towards: Tensor): Tensor =>
    rescaled(away.add(towards.sub(away).scale(guidance)), towards, rescale);
  if (tokens(cond) !== tokens(uncond)) {
    return (sample, timesteps) => lead(alone(uncond, sample, timesteps), alone(cond, sample, timesteps));
  }
  return (sample, timesteps) => {
    const rows = sample.shape[0] ?? 0;
    const prediction = alone(stack(uncond, cond), concat([sample, sample]), timesteps);
    return lead(prediction.slice(0, 0, rows), prediction.slice(0, rows, rows));
  };
}

function tokens({ encoderHiddenStates }: Conditioning): number {
  return encoderHiddenStates.shape[1] ?? 0;
}

/** diffusers' `rescale_noise_cfg`: deviations are each row's own, over all other axes. */
function rescaled(prediction: Tensor, cond: Tensor, share: number): Tensor {
  if (share === 0) return prediction;
  const factor = deviation(cond).div(deviation(prediction));
  return prediction.mul(factor.affine(share, 1 - share));
}

/** Only ratios of it are used, in which a divisor of n − 1 or n cancels. */
function deviation(tensor: Tensor): Tensor {
  const axes = [1, 2, 3];
  return tensor.sub(tensor.mean(axes, true)).square().mean(axes, true).sqrt();
}

/** Predictions of one kind read as another. */
export function asKind(predict: Predictor, from: PredictionKind, to: PredictionKind, schedule: Schedule): Predictor {
  if (from === to) return predict;
  return (sample, timesteps, at) => schedule.convertAt(predict(sample, timesteps, at), from, to, sample, at.level);
}

/** The mean of several predictors of one kind; their weights are normalised. */
export function averaged(predictors: readonly { readonly predict: Predictor; readonly weight: number }[]): Predictor {
  const [first, ...rest] = predictors;
  if (first === undefined) throw new RangeError('an average needs at least one predictor');
  if (rest.length === 0) return first.predict;
  const total = predictors.reduce((sum, { weight }) => sum + weight, 0);
  return (sample, timesteps, at) => {
    const share = ({ predict, weight }: (typeof predictors)[number]): Tensor =>
      predict(sample, timesteps, at).scale(weight / total);
    return rest.reduce((sum, one) => sum.add(share(one)), share(first));
  };
}

/** The first `steps` steps by one predictor, the rest by another of the same kind. */
export function hybrid(first: Predictor, steps: number, rest: Predictor): Predictor {
  return (sample, timesteps, at) => (at.step < steps ? first : rest)(sample, timesteps, at);
}
