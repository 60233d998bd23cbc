import type { Engine } from './engine.ts';
import type { CreatedSampler, SamplerKind, Spacing } from './generated/binding.js';
import { Handle } from './handle.ts';
import { allocateFor } from './load-handle.ts';
import type { Schedule } from './schedule.ts';
import { enqueueTensor, type Tensor } from './tensor.ts';

/**
 * One run's worth of sampling steps with diffusers' numbers. A run is: latents = noise · `initNoiseSigma`; for each step,
 * `latents = step(i, model(input(i, latents), timesteps[i]), latents)`.
 */
export class Sampler extends Handle {
  /** What the UNet is told at each step. */
  readonly timesteps: Float64Array;
  /** Factor from unit noise to the first latents. */
  readonly initNoiseSigma: number;

  private constructor(engine: Engine, id: number, created: CreatedSampler) {
    super(engine, id, false);
    this.timesteps = created.timesteps;
    this.initNoiseSigma = created.initNoiseSigma;
  }

  /** A sampler of predictions of the schedule's own kind. */
  static async create(
    schedule: Schedule,
    options: { readonly kind: SamplerKind; readonly steps: number; readonly spacing?: Spacing | undefined },
  ): Promise<Sampler> {
    const { engine } = schedule;
    const { kind, steps, spacing = 'leading' } = options;
    const created = await allocateFor(engine, (out) =>
      engine.native.createSampler(out, schedule.id, kind, steps, spacing),
    );
    return new Sampler(engine, ...created);
  }

  /** Latents as the UNet takes them at step `i`. */
  input(i: number, latents: Tensor): Tensor {
    return enqueueTensor(this.engine, latents.shape, (id) =>
      this.engine.native.samplerInput(id, this.id, i, latents.id),
    );
  }

  /** Latents after step `i`, from the (guided) prediction at it. */
  step(i: number, prediction: Tensor, latents: Tensor): Tensor {
    return enqueueTensor(this.engine, latents.shape, (id) =>
      this.engine.native.samplerStep(id, this.id, i, prediction.id, latents.id),
    );
  }
}
