import type { Tensor } from '../native/index.ts';
import type { Batch } from './define.ts';
import { asKind, type Point, type Prediction } from './prediction.ts';

/** How far a teacher walks before its student is told where to go. */
export interface RolloutOptions {
  /** Steps of the teacher; 1 is its prediction at the point itself. */
  readonly steps: number;
  /** Timesteps of each. */
  readonly stride: number;
  /** Share of the walk in the target; the rest is the prediction at the point itself. */
  readonly blend: number;
}

/**
 * The prediction that goes in one DDIM step where a teacher goes in several: from x_t the teacher takes its steps along
 * one trajectory, x_s being where they end, and of
 *
 *     x_s = α_s·x̂₀(ε̄) + σ_s·ε̄,   x̂₀(ε̄) = (x_t − σ_t·ε̄)/α_t
 *
 * ε̄ is the solution (the target of progressive distillation, Salimans and Ho 2022). A walk ends at timestep 0; a row
 * that begins there keeps its own prediction.
 *
 * @param first the teacher's prediction at the batch's points
 * @param ask predicts at further points of the walk
 */
export function rollout(
  batch: Batch,
  first: Prediction,
  ask: (point: Point) => Prediction,
  { steps, stride, blend }: RolloutOptions,
): Prediction {
  if (steps <= 1 || blend === 0) return first;
  let point: Point = batch;
  let prediction = first;
  for (let step = 0; step < steps; step += 1) {
    if (step > 0) prediction = ask(point);
    point = ddim(point, prediction, stride);
  }
  const { schedule } = first;
  const levels = (timesteps: Float64Array): { readonly signal: Tensor; readonly noise: Tensor } => {
    const [none, all] = [batch.perRow(timesteps.map(() => 0)), batch.perRow(timesteps.map(() => 1))];
    return { signal: schedule.addNoise(all, none, timesteps), noise: schedule.addNoise(none, all, timesteps) };
  };
  const [from, to] = [levels(batch.timesteps), levels(point.timesteps)];
  const ratio = to.signal.div(from.signal);
  // Rows that began at the end have gone nowhere: 0/0 becomes 0/1, of which nothing is taken.
  const still = batch.perRow(batch.timesteps.map((timestep) => (timestep === 0 ? 1 : 0)));
  const distance = to.noise.sub(ratio.mul(from.noise)).add(still);
  const walked = point.noisy.sub(ratio.mul(batch.noisy)).div(distance);
  const share = batch.perRow(batch.timesteps.map((timestep) => (timestep === 0 ? 0 : blend)));
  const own = asKind(first, 'epsilon', batch);
  return { ...own, tensor: own.tensor.add(walked.sub(own.tensor).mul(share)) };
}

/** One deterministic DDIM step (Song et al. 2020, η = 0) towards timestep 0. */
function ddim(point: Point, prediction: Prediction, stride: number): Point {
  const timesteps = point.timesteps.map((timestep) => Math.max(0, timestep - stride));
  const [x0, epsilon] = [asKind(prediction, 'x0', point), asKind(prediction, 'epsilon', point)];
  return { noisy: prediction.schedule.addNoise(x0.tensor, epsilon.tensor, timesteps), timesteps };
}
