import { type Engine, gradients, Lora, noise, scope, Tensor, Unet, type UnetInputs } from '../native/index.ts';

/**
 * One iteration: `forward` predicts; `full` predicts, and takes the gradient of a loss by every weight; `lora` that by the
 * parameters of a LoRA.
 */
export type UnetMode = 'forward' | 'lora' | 'full';

/** What is measured. */
export interface UnetWorkload {
  /** Side of the picture in pixels, a multiple of 8. */
  readonly size: number;
  readonly batch: number;
  readonly mode: UnetMode;
  /** Keep no activations for the way back and compute them again. */
  readonly recompute?: boolean;
}

/** Tokens of a prompt. */
const TOKENS = 77;
/** Pixels to a latent. */
const LATENT = 8;
/** Numbers in SDXL's time ids. */
const TIME_IDS = 6;
/** The LoRA of `lora`. */
const LORA = { rank: 16, alpha: 16, targets: ['attention'], seed: 5n } as const;
/** In the middle of the schedule. */
const TIMESTEP = 500;
/** Weights take this seed and those after it: one for each parameter, in the order of the names. */
export const WEIGHTS_SEED = 1000n;
/** Seeds of the inputs, of which each is torch's `randn`. */
export const INPUT_SEEDS = { sample: 1n, text: 2n, pooled: 3n, target: 4n } as const;

/**
 * A UNet of full size with random weights, and fixed random inputs: a function of the workload alone, which Python can
 * make as well (`bench/peers/unet.py`).
 */
export class UnetBenchmark {
  readonly #unet: Unet;
  readonly #inputs: UnetInputs;
  readonly #target: Tensor;
  readonly #workload: UnetWorkload;

  private constructor(workload: UnetWorkload, unet: Unet, inputs: UnetInputs, target: Tensor) {
    this.#workload = workload;
    this.#unet = unet;
    this.#inputs = inputs;
    this.#target = target;
  }

  /** @param config a diffusers configuration, such as one of `ARCHITECTURES` */
  static async create(engine: Engine, config: object, workload: UnetWorkload): Promise<UnetBenchmark> {
    const { size, batch, mode } = workload;
    const unet = await Unet.random(engine, config, WEIGHTS_SEED, 'normal');
    unet.setTrainable(mode === 'full' ? 'all' : 'none');
    if (mode === 'lora') (await Lora.create(unet, LORA)).setTrainable(true);
    const side = size / LATENT;
    const gaussian = (seed: bigint, shape: readonly number[]): Tensor =>
      noise(engine, { generator: 'torch', seeds: [seed], shape }).reshape(shape);
    const latents = [batch, unet.inChannels, side, side];
    const sizes = Array.from({ length: batch }, () => [size, size, 0, 0, size, size]).flat();
    const { pooledWidth } = unet;
    const inputs: UnetInputs = {
      sample: gaussian(INPUT_SEEDS.sample, latents),
      timesteps: Float64Array.of(TIMESTEP),
      encoderHiddenStates: gaussian(INPUT_SEEDS.text, [batch, TOKENS, unet.textWidth]),
      ...(pooledWidth === undefined
        ? {}
        : {
            textEmbeds: gaussian(INPUT_SEEDS.pooled, [batch, pooledWidth]),
            timeIds: Tensor.fromArray(engine, sizes, [batch, TIME_IDS]),
          }),
    };
    return new UnetBenchmark(workload, unet, inputs, gaussian(INPUT_SEEDS.target, latents));
  }

  /** Runs once; seconds until all of it is computed. */
  async run(): Promise<number> {
    const begun = performance.now();
    await scope(async () => {
      if (this.#workload.mode === 'forward') this.#unet.forward(this.#inputs);
      else this.#gradients();
      await this.#unet.engine.settled();
    });
    return (performance.now() - begun) / 1000;
  }

  /** The prediction, to be compared before anything is timed. */
  async prediction(): Promise<Float32Array> {
    return scope(() => this.#unet.forward(this.#inputs).outputs.prediction.toArray());
  }

  /** After a run of `full`: the Euclidean norm of each named parameter's gradient. */
  async gradientNorms(names: readonly string[]): Promise<number[]> {
    const parameters = await this.#unet.parameters();
    const chosen = names.map((name) => {
      const found = parameters.find((parameter) => parameter.name === name);
      if (found === undefined) throw new RangeError(`the UNet has no parameter ${name}`);
      return found;
    });
    return scope(async () => {
      const all = await Promise.all(this.#unet.gradients(chosen).map((gradient) => gradient.toArray()));
      return all.map((values) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0)));
    });
  }

  /** Gathers the gradients of the prediction's mean squared error by what is trained. */
  #gradients(): void {
    const { recompute = false } = this.#workload;
    this.#unet.zeroGradients();
    const { outputs, tape } = this.#unet.forward(this.#inputs, { grad: true, recompute });
    const loss = outputs.prediction.sub(this.#target).square().mean();
    const [slope] = gradients(loss, [outputs.prediction]);
    if (slope !== undefined) tape.backward({ prediction: slope });
  }
}
