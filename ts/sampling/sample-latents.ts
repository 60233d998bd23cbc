import {
  concat,
  type PredictionKind,
  type Sampler,
  type Schedule,
  scope,
  type Tensor,
  type Unet,
} from '../native/index.ts';
import { type Conditioning, stack } from './conditioning.ts';

/** A UNet and its share of the prediction. */
export interface WeightedUnet {
  readonly unet: Unet;
  /** Shares are normalised. */
  readonly weight: number;
  /** What it predicts. */
  readonly prediction: PredictionKind;
}

/** What to sample latents with. */
export interface LatentSampling {
  /** Several are averaged at every step, as one teacher made of many. */
  readonly networks: readonly WeightedUnet[];
  readonly schedule: Schedule;
  /** What the sampler takes predictions as: the kind of the schedule's own model. */
  readonly prediction: PredictionKind;
  readonly sampler: Sampler;
  readonly cond: Conditioning;
  /** What guidance leads away from. */
  readonly uncond?: Conditioning | undefined;
  /** Scale g of classifier-free guidance, u + g·(c − u); 1 is none and takes half the time. */
  readonly guidance: number;
  /** Unit noise, [B, 4, h, w], as many rows as the conditioning has. */
  readonly noise: Tensor;
  readonly signal?: AbortSignal | undefined;
  /** Called after every step with the number of steps done. */
  readonly onStep?: ((done: number) => void) | undefined;
}

/** Steps unit noise to clean latents, [B, 4, h, w], scaled as the VAE takes them. */
export async function sampleLatents(sampling: LatentSampling): Promise<Tensor> {
  const { sampler, noise, cond, guidance, signal, onStep } = sampling;
  const uncond = guidance === 1 ? undefined : sampling.uncond;
  return scope(async () => {
    // Guided, both predictions are made as one batch: the unconditional rows first.
    const told = uncond === undefined ? cond : stack(uncond, cond);
    let latents = noise.scale(sampler.initNoiseSigma);
    for (const [i, timestep] of sampler.timesteps.entries()) {
      signal?.throwIfAborted();
      const previous = latents;
      latents = scope(() => {
        const input = sampler.input(i, previous);
        const batch = uncond === undefined ? input : concat([input, input]);
        const predicted = predict(sampling, batch, Float64Array.of(timestep), told);
        return sampler.step(i, uncond === undefined ? predicted : guide(predicted, guidance), previous);
      });
      previous.dispose();
      await latents.engine.settled();
      onStep?.(i + 1);
    }
    return latents;
  });
}

/** The networks' common prediction, of the kind that the sampler takes. */
function predict(
  { networks, schedule, prediction }: LatentSampling,
  sample: Tensor,
  timesteps: Float64Array,
  told: Conditioning,
): Tensor {
  const total = networks.reduce((sum, { weight }) => sum + weight, 0);
  const shares = networks.map(({ unet, weight, prediction: kind }) => {
    const { outputs } = unet.forward({ sample, timesteps, ...told });
    // A sampler's input has the form √ᾱ·x0 + √(1 − ᾱ)·ε, so that kinds convert at it.
    const alike =
      kind === prediction
        ? outputs.prediction
        : schedule.convert(outputs.prediction, kind, prediction, sample, timesteps);
    return networks.length === 1 ? alike : alike.scale(weight / total);
  });
  const [first, ...rest] = shares;
  if (first === undefined) throw new RangeError('sampling needs at least one network');
  return rest.reduce((sum, share) => sum.add(share), first);
}

/** Unconditional rows come first, conditional rows second. */
function guide(both: Tensor, scale: number): Tensor {
  const rows = (both.shape[0] ?? 0) / 2;
  const [uncond, cond] = [both.slice(0, 0, rows), both.slice(0, rows, rows)];
  return uncond.add(cond.sub(uncond).scale(scale));
}
