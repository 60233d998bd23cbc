import { inputError } from '../errors.ts';
import {
  type PredictionKind,
  Sampler,
  type SamplerKind,
  type Schedule,
  type Spacing,
  scope,
  type Tensor,
} from '../native/index.ts';
import type { Predictor } from './predictor.ts';

/** How to step noise to latents. */
export interface LatentSampling {
  /** Noise levels, and the kind of the predictions. */
  readonly schedule: Schedule;
  readonly sampler: SamplerKind;
  /** How the timesteps are spread; the sampler's own way, as in diffusers, unless given. */
  readonly spacing?: Spacing | undefined;
  /** Noise levels of Karras et al. (`euler`, `dpmpp-2m`). */
  readonly karras?: boolean | undefined;
  /** Share of fresh noise, 0 to 1 (`ddim`, `tcd`). */
  readonly eta?: number | undefined;
  readonly steps: number;
  /** What `predict` gives, where it is not the schedule's own kind. */
  readonly prediction?: PredictionKind | undefined;
  /** Unit noise, [B, 4, h, w]; the sampler scales it. */
  readonly noise: Tensor;
  /** Fresh unit noise of that shape, for the stochastic samplers. Called in the step's scope. */
  readonly stepNoise?: ((step: number) => Tensor) | undefined;
  readonly predict: Predictor;
  readonly signal?: AbortSignal | undefined;
  /** Called after every step with the number of steps done. */
  readonly onStep?: ((done: number) => void) | undefined;
}

/**
 * Steps unit noise to clean latents, [B, 4, h, w], scaled as the VAE takes them, with diffusers' numbers.
 *
 * @throws PotstillError when the sampler cannot take so many steps, or is not given the noise that it takes; the signal's
 *   reason when it is aborted
 */
export async function sampleLatents(sampling: LatentSampling): Promise<Tensor> {
  const { schedule, sampler: kind, spacing, karras, eta, steps, prediction, signal, onStep } = sampling;
  using sampler = await Sampler.create(schedule, { kind, steps, spacing, karras, eta, prediction });
  return await scope(async () => {
    let latents = sampling.noise.scale(sampler.initNoiseSigma);
    let clean: Tensor | undefined;
    for (const i of sampler.timesteps.keys()) {
      signal?.throwIfAborted();
      const before = [latents, ...(clean === undefined ? [] : [clean])];
      [latents, clean] = scope(() => step(sampler, i, sampling, latents, clean));
      for (const tensor of before) tensor.dispose();
      await latents.engine.settled(); // so that progress is what has been done, and an abort waits for one step at most
      onStep?.(i + 1);
    }
    clean?.dispose();
    return latents;
  });
}

/** Latents after a step, and the clean latents it saw where the next step takes them. */
function step(
  sampler: Sampler,
  i: number,
  { sampler: kind, predict, stepNoise }: LatentSampling,
  latents: Tensor,
  previous: Tensor | undefined,
): [Tensor, Tensor | undefined] {
  const level = sampler.levels[i];
  const timestep = sampler.timesteps[i];
  if (level === undefined || timestep === undefined) throw new RangeError(`a sampler has no step ${i}`);
  const noise = sampler.takesNoise(i) ? stepNoise?.(i) : undefined;
  if (sampler.takesNoise(i) && noise === undefined) {
    throw inputError('ERR_SAMPLER', `the sampler ${kind} takes fresh noise at every step, and none is given`, {
      remedy: 'Take a deterministic sampler here: ddim, euler or dpmpp-2m.',
    });
  }
  const prediction = predict(sampler.input(i, latents), Float64Array.of(timestep), { step: i, level });
  const next = sampler.step(i, { latents, prediction, previous, noise });
  return [next, sampler.takesPrevious(i + 1) ? sampler.clean(i, prediction, latents) : undefined];
}
