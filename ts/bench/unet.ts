import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type Engine,
  gradients,
  Lora,
  type Precision,
  scope,
  Tensor,
  Unet,
  type UnetInputs,
  writeTensors,
} from '../native/index.ts';
import { gaussian, LATENT, timed, WEIGHTS_SEED } from './inputs.ts';

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
  /** What the matrices are kept and multiplied in; f32 unless given. */
  readonly dtype?: Precision;
  /** Keep no activations for the way back and compute them again. */
  readonly recompute?: boolean;
}

/** Tokens of a prompt. */
const TOKENS = 77;
/** Numbers in SDXL's time ids. */
const TIME_IDS = 6;
/** The LoRA of `lora`, whose product is added as it is. */
export const LORA_RANK = 16;
/** In the middle of the schedule. */
const TIMESTEP = 500;
/** Weights of the LoRA take this seed and those after it, as {@link WEIGHTS_SEED} says. */
export const LORA_SEED = 100_000n;
/** Seeds of the inputs, of which each is torch's `randn`. */
export const INPUT_SEEDS = { sample: 1n, text: 2n, pooled: 3n, target: 4n } as const;

/**
 * A UNet of full size with random weights, and fixed random inputs: a function of the workload alone, which Python can
 * make as well (`bench/sides/torch_unet.py`).
 */
export class UnetBenchmark {
  readonly #unet: Unet;
  readonly #lora: Lora | undefined;
  readonly #inputs: UnetInputs;
  readonly #target: Tensor;
  readonly #workload: UnetWorkload;

  private constructor(
    workload: UnetWorkload,
    { unet, lora }: { readonly unet: Unet; readonly lora: Lora | undefined },
    inputs: UnetInputs,
    target: Tensor,
  ) {
    this.#workload = workload;
    this.#unet = unet;
    this.#lora = lora;
    this.#inputs = inputs;
    this.#target = target;
  }

  /** @param config a diffusers configuration, such as one of `ARCHITECTURES` */
  static async create(engine: Engine, config: object, workload: UnetWorkload): Promise<UnetBenchmark> {
    const { size, batch, mode, dtype } = workload;
    const unet = await Unet.random(engine, config, WEIGHTS_SEED, 'normal', dtype);
    unet.setTrainable(mode === 'full' ? 'all' : 'none');
    const lora = mode === 'lora' ? await randomLora(unet) : undefined;
    const side = size / LATENT;
    const latents = [batch, unet.inChannels, side, side];
    const sizes = Array.from({ length: batch }, () => [size, size, 0, 0, size, size]).flat();
    const { pooledWidth } = unet;
    const inputs: UnetInputs = {
      sample: gaussian(engine, INPUT_SEEDS.sample, latents),
      timesteps: Float64Array.of(TIMESTEP),
      encoderHiddenStates: gaussian(engine, INPUT_SEEDS.text, [batch, TOKENS, unet.textWidth]),
      ...(pooledWidth === undefined
        ? {}
        : {
            textEmbeds: gaussian(engine, INPUT_SEEDS.pooled, [batch, pooledWidth]),
            timeIds: Tensor.fromArray(engine, sizes, [batch, TIME_IDS]),
          }),
    };
    return new UnetBenchmark(workload, { unet, lora }, inputs, gaussian(engine, INPUT_SEEDS.target, latents));
  }

  /** Runs once; seconds until all of it is computed. */
  run(): Promise<number> {
    return scope(() =>
      timed(this.#unet.engine, () => {
        if (this.#workload.mode === 'forward') this.#unet.forward(this.#inputs);
        else this.#gradients();
      }),
    );
  }

  /** The prediction, to be compared before anything is timed. */
  async prediction(): Promise<Float32Array> {
    return scope(() => this.#unet.forward(this.#inputs).outputs.prediction.toArray());
  }

  /**
   * After a run of `full` or `lora`: the Euclidean norm of each trained parameter's gradient, by name.
   *
   * @param names those wanted; all that is trained by default
   */
  async gradientNorms(names?: readonly string[]): Promise<ReadonlyMap<string, number>> {
    const trained = await (this.#lora ?? this.#unet).parameters();
    const chosen = (names ?? trained.map(({ name }) => name)).map((name) => {
      const found = trained.find((parameter) => parameter.name === name);
      if (found === undefined) throw new RangeError(`${name} is not trained`);
      return found;
    });
    const norms = new Map<string, number>();
    for (const parameter of chosen) {
      const values = await scope(
        async () => (await this.#unet.gradients([parameter])[0]?.toArray()) ?? new Float32Array(),
      );
      norms.set(parameter.name, Math.sqrt(values.reduce((sum, value) => sum + value * value, 0)));
    }
    return norms;
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

/** A LoRA on the attention layers, both of its factors random as a model's weights are, to be trained. */
async function randomLora(unet: Unet): Promise<Lora> {
  const settings = { rank: LORA_RANK, alpha: LORA_RANK, targets: ['attention'], seed: LORA_SEED };
  const lora = await Lora.create(unet, settings);
  const parameters = [...(await lora.parameters())].sort(byName);
  const folder = await mkdtemp(join(tmpdir(), 'potstill-bench-'));
  try {
    const file = join(folder, 'lora.safetensors');
    await scope(() => {
      const weights = parameters.map(({ name, shape }, index) => {
        const [, fanIn = 1] = shape;
        return [name, gaussian(unet.engine, LORA_SEED + BigInt(index), shape).scale(1 / Math.sqrt(fanIn))] as const;
      });
      return writeTensors(file, Object.fromEntries(weights));
    });
    await lora.loadWeights(file);
  } finally {
    await rm(folder, { recursive: true });
  }
  lora.setTrainable(true);
  return lora;
}

/** The order in which parameters take their seeds. */
function byName(a: { readonly name: string }, b: { readonly name: string }): number {
  return a.name < b.name ? -1 : 1;
}
