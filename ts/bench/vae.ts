import { type Engine, scope, type Tensor, Vae } from '../native/index.ts';
import { gaussian, LATENT, timed, WEIGHTS_SEED } from './inputs.ts';

/** One iteration: a picture of latents, or latents (the mean) of a picture. */
export type VaeMode = 'decode' | 'encode';

/** What is measured. */
export interface VaeWorkload {
  /** Side of the picture in pixels, a multiple of 8. */
  readonly size: number;
  readonly batch: number;
  readonly mode: VaeMode;
}

/** Seed of the input, which is torch's `randn`. */
export const VAE_INPUT_SEED = 1n;
const COLOURS = 3;

/** A VAE of full size with random weights, and a fixed random input: a function of the workload alone. */
export class VaeBenchmark {
  readonly #vae: Vae;
  readonly #input: Tensor;
  readonly #mode: VaeMode;

  private constructor(vae: Vae, input: Tensor, mode: VaeMode) {
    this.#vae = vae;
    this.#input = input;
    this.#mode = mode;
  }

  /** @param config a diffusers configuration, such as `VAE` */
  static async create(engine: Engine, config: object, { size, batch, mode }: VaeWorkload): Promise<VaeBenchmark> {
    const vae = await Vae.random(engine, config, WEIGHTS_SEED);
    const side = size / LATENT;
    const shape = mode === 'decode' ? [batch, vae.latentChannels, side, side] : [batch, COLOURS, size, size];
    return new VaeBenchmark(vae, gaussian(engine, VAE_INPUT_SEED, shape), mode);
  }

  /** Runs once; seconds until all of it is computed. */
  run(): Promise<number> {
    return scope(() => timed(this.#vae.engine, () => void this.#output()));
  }

  /** What is computed, to be compared before anything is timed. */
  output(): Promise<Float32Array> {
    return scope(() => this.#output().toArray());
  }

  #output(): Tensor {
    return this.#mode === 'decode' ? this.#vae.decode(this.#input) : this.#vae.encode(this.#input);
  }
}
