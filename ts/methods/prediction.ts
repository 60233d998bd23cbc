import { match } from 'ts-pattern';
import type { PredictionKind, Schedule, Tensor } from '../native/index.ts';

/** What a network said about a noisy latent, with all that is needed to read it as another kind. */
export interface Prediction {
  readonly kind: PredictionKind;
  readonly schedule: Schedule;
  /** [B, 4, h, w], f32. */
  readonly tensor: Tensor;
}

/** A point at which predictions are made and compared: the noisy latents and their timesteps, one per row. */
export interface Point {
  /** x_t, [B, 4, h, w]. */
  readonly noisy: Tensor;
  /** Timesteps of the training schedule, 0 to 999; may be fractional. */
  readonly timesteps: Float64Array;
}

/**
 * The same prediction as another kind. Coefficients are computed in f64 by the native module; within one kind nothing is
 * computed at all.
 */
export function asKind(prediction: Prediction, kind: PredictionKind, point: Point): Prediction {
  if (prediction.kind === kind) return prediction;
  const { schedule, tensor } = prediction;
  return { kind, schedule, tensor: schedule.convert(tensor, prediction.kind, kind, point.noisy, point.timesteps) };
}

/** Latents and noise that a point was made of. */
export interface Known extends Point {
  /** x_0, [B, 4, h, w]. */
  readonly latents: Tensor;
  /** Unit noise, [B, 4, h, w]. */
  readonly noise: Tensor;
}

/** What a perfect network predicts for known latents and noise. */
export function truth(kind: PredictionKind, schedule: Schedule, { latents, noise, timesteps }: Known): Prediction {
  const tensor = match(kind)
    .with('epsilon', () => noise)
    .with('x0', () => latents)
    .with('v', () => schedule.velocity(latents, noise, timesteps))
    .with('flow', () => noise.sub(latents))
    .exhaustive();
  return { kind, schedule, tensor };
}
