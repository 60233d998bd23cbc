import type { Engine } from './engine.ts';
import type { CreatedSampler, PredictionKind, SamplerKind, Spacing } from './generated/binding.js';
import { Handle } from './handle.ts';
import { allocateFor } from './load-handle.ts';
import type { NoiseLevel, Schedule } from './schedule.ts';
import { enqueueTensor, type Tensor } from './tensor.ts';

/** Which steps a sampler makes. */
export interface SamplerOptions {
  readonly kind: SamplerKind;
  readonly steps: number;
  /** How the timesteps are spread: leading unless given, linspace with `dpmpp-2m`, as in diffusers. */
  readonly spacing?: Spacing | undefined;
  /** Noise levels of Karras et al. (`euler`, `dpmpp-2m`). */
  readonly karras?: boolean | undefined;
  /** Share of fresh noise, 0 to 1: 0 unless given with `ddim`, 0.3 with `tcd`. */
  readonly eta?: number | undefined;
  /** What the predictions are, where it is not what the schedule says. */
  readonly prediction?: PredictionKind | undefined;
}

/** What a step is made of. */
export interface StepInputs {
  /** Latents before the step. */
  readonly latents: Tensor;
  /** The (guided) prediction at them. */
  readonly prediction: Tensor;
  /** {@link Sampler.clean} of the step before, where {@link Sampler.takesPrevious}. */
  readonly previous?: Tensor | undefined;
  /** Fresh unit noise, where {@link Sampler.takesNoise}. */
  readonly noise?: Tensor | undefined;
}

/**
 * One run's worth of sampling steps with diffusers' numbers. A run is: latents = noise · `initNoiseSigma`; for each step,
 * `latents = step(i, { latents, prediction: model(input(i, latents), timesteps[i]), … })`.
 */
export class Sampler extends Handle {
  /** What the UNet is told at each step. */
  readonly timesteps: Float64Array;
  /** Noise level of what the UNet takes at each step. */
  readonly levels: readonly NoiseLevel[];
  /** Factor from unit noise to the first latents. */
  readonly initNoiseSigma: number;
  readonly #takesNoise: readonly boolean[];
  readonly #takesPrevious: readonly boolean[];

  private constructor(engine: Engine, id: number, created: CreatedSampler) {
    super(engine, id, false);
    this.timesteps = created.timesteps;
    this.levels = Array.from(created.signals, (signal, i) => ({ signal, noise: created.noises[i] ?? 0 }));
    this.initNoiseSigma = created.initNoiseSigma;
    this.#takesNoise = created.takesNoise;
    this.#takesPrevious = created.takesPrevious;
  }

  /**
   * A sampler of predictions of the schedule's own kind, unless another is given.
   *
   * @throws PotstillError when the kind takes no such option, or the schedule not so many steps
   */
  static async create(schedule: Schedule, options: SamplerOptions): Promise<Sampler> {
    const { engine } = schedule;
    const { kind, steps, spacing, karras, eta, prediction } = options;
    const request = {
      ...{ kind, steps },
      ...(spacing === undefined ? {} : { spacing }),
      ...(karras === undefined ? {} : { karras }),
      ...(eta === undefined ? {} : { eta }),
      ...(prediction === undefined ? {} : { prediction }),
    };
    const created = await allocateFor(engine, (out) => engine.native.createSampler(out, schedule.id, request));
    return new Sampler(engine, ...created);
  }

  /** Does step `i` take fresh noise? */
  takesNoise(i: number): boolean {
    return this.#takesNoise[i] ?? false;
  }

  /** Does step `i` take the clean latents that the step before it saw? */
  takesPrevious(i: number): boolean {
    return this.#takesPrevious[i] ?? false;
  }

  /** Latents as the UNet takes them at step `i`. */
  input(i: number, latents: Tensor): Tensor {
    return enqueueTensor(this.engine, latents.shape, (id) =>
      this.engine.native.samplerInput(id, this.id, i, latents.id),
    );
  }

  /** The clean latents that the prediction at step `i` amounts to. */
  clean(i: number, prediction: Tensor, latents: Tensor): Tensor {
    return enqueueTensor(this.engine, latents.shape, (id) =>
      this.engine.native.samplerClean(id, this.id, i, prediction.id, latents.id),
    );
  }

  /** Latents after step `i`. */
  step(i: number, { latents, prediction, previous, noise }: StepInputs): Tensor {
    const handles = {
      ...{ latents: latents.id, prediction: prediction.id },
      ...(previous === undefined ? {} : { previous: previous.id }),
      ...(noise === undefined ? {} : { noise: noise.id }),
    };
    return enqueueTensor(this.engine, latents.shape, (id) => this.engine.native.samplerStep(id, this.id, i, handles));
  }
}
