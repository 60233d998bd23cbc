import type { Engine } from './engine.ts';
import type { PredictionKind } from './generated/binding.js';
import { Handle } from './handle.ts';
import { enqueueTensor, type Tensor } from './tensor.ts';

/** Noisy latents are `signal`·x0 + `noise`·ε. */
export interface NoiseLevel {
  readonly signal: number;
  readonly noise: number;
}

/**
 * A noise schedule: ᾱ of every training timestep, with diffusers' values. Coefficients are computed in f64. Timesteps are
 * whole numbers, one per row or one for all.
 */
export class Schedule extends Handle {
  /** Number of training timesteps, 1000 in all known models. */
  readonly timesteps: number;

  /** For the modules of `ts/native`. */
  constructor(engine: Engine, id: number, timesteps: number) {
    super(engine, id, false);
    this.timesteps = timesteps;
  }

  /** Noisy latents √ᾱ·x0 + √(1 − ᾱ)·noise. */
  addNoise(x0: Tensor, noise: Tensor, timesteps: Float64Array): Tensor {
    return enqueueTensor(this.engine, x0.shape, (id) =>
      this.engine.native.addNoise(id, this.id, x0.id, noise.id, timesteps),
    );
  }

  /** What a perfect v-prediction is: √ᾱ·noise − √(1 − ᾱ)·x0. */
  velocity(x0: Tensor, noise: Tensor, timesteps: Float64Array): Tensor {
    return enqueueTensor(this.engine, x0.shape, (id) =>
      this.engine.native.velocity(id, this.id, x0.id, noise.id, timesteps),
    );
  }

  /**
   * A prediction at the noisy latents as another kind; differentiable. An epsilon prediction at ᾱ = 0 determines nothing
   * else: reading the result is then an error.
   */
  convert(
    prediction: Tensor,
    from: PredictionKind,
    to: PredictionKind,
    noisy: Tensor,
    timesteps: Float64Array,
  ): Tensor {
    return enqueueTensor(this.engine, prediction.shape, (id) =>
      this.engine.native.convert(id, this.id, prediction.id, from, to, noisy.id, timesteps),
    );
  }

  /** The same at a level that need not be the schedule's, one for all rows: {@link Sampler.levels}. */
  convertAt(
    prediction: Tensor,
    from: PredictionKind,
    to: PredictionKind,
    noisy: Tensor,
    { signal, noise }: NoiseLevel,
  ): Tensor {
    return enqueueTensor(this.engine, prediction.shape, (id) =>
      this.engine.native.convertAt(id, prediction.id, from, to, noisy.id, signal, noise),
    );
  }
}
