import { Sampler, type SamplerKind, type Schedule, type Spacing, scope, type Tensor } from '../native/index.ts';
import type { Predictor } from './predictor.ts';

/** How to step noise to latents. */
export interface LatentSampling {
  /** Noise levels, and the kind of the predictions. */
  readonly schedule: Schedule;
  readonly sampler: SamplerKind;
  /** How the timesteps are spread; leading unless given. */
  readonly spacing?: Spacing | undefined;
  readonly steps: number;
  /** Unit noise, [B, 4, h, w]; the sampler scales it. */
  readonly noise: Tensor;
  /** Gives predictions of the schedule's own kind. */
  readonly predict: Predictor;
  readonly signal?: AbortSignal | undefined;
  /** Called after every step with the number of steps done. */
  readonly onStep?: ((done: number) => void) | undefined;
}

/**
 * Steps unit noise to clean latents, [B, 4, h, w], scaled as the VAE takes them, with diffusers' numbers.
 *
 * @throws PotstillError when the sampler cannot take so many steps; the signal's reason when it is aborted
 */
export async function sampleLatents(sampling: LatentSampling): Promise<Tensor> {
  const { schedule, sampler: kind, spacing, steps, noise, predict, signal, onStep } = sampling;
  using sampler = await Sampler.create(schedule, { kind, steps, spacing });
  return await scope(async () => {
    let latents = noise.scale(sampler.initNoiseSigma);
    for (const [i, timestep] of sampler.timesteps.entries()) {
      signal?.throwIfAborted();
      const previous = latents;
      latents = scope(() => {
        const predicted = predict(sampler.input(i, previous), Float64Array.of(timestep));
        return sampler.step(i, predicted, previous);
      });
      previous.dispose();
      await latents.engine.settled(); // so that progress is what has been done, and an abort waits for one step at most
      onStep?.(i + 1);
    }
    return latents;
  });
}
