import type { Engine } from './engine.ts';
import type { LoadedUnet, Parameter } from './generated/binding.js';
import { Handle } from './handle.ts';
import { allocateFor } from './load-handle.ts';
import { unwrap } from './outcome.ts';
import { Tape } from './tape.ts';
import { Tensor } from './tensor.ts';

/**
 * What a UNet's matrices are kept and multiplied in; biases, norms, sums and, on a CPU, activations are f32. `bf16` takes
 * half the memory and, where the CPU multiplies it, about half the time; such matrices are frozen. On an NVIDIA device
 * activations are then bf16 too.
 */
export type Precision = 'f32' | 'bf16';

/** Codes that linear layers' matrices can be kept in; every use decodes them and multiplies as f32. They are frozen. */
export type QuantFormat = 'nf4' | 'int8' | 'fp8';

/** What a UNet is asked to predict. B is the batch, h and w the latents' size. */
export interface UnetInputs {
  /** Noisy latents, [B, 4, h, w]. */
  readonly sample: Tensor;
  /** One timestep for all rows, or one per row; may be fractional. */
  readonly timesteps: Float64Array;
  /** The text, [B, 77, width]. */
  readonly encoderHiddenStates: Tensor;
  /** SDXL: the pooled text, [B, 1280]. */
  readonly textEmbeds?: Tensor | undefined;
  /** SDXL: original height and width, crop top and left, target height and width, [B, 6]. */
  readonly timeIds?: Tensor | undefined;
}

/** Inputs at which gradients can be asked for. */
export type UnetInputName = 'sample' | 'encoderHiddenStates' | 'textEmbeds';

/** How to run a UNet with gradients. */
export interface GradOptions<Inputs extends UnetInputName = never> {
  readonly grad: true;
  /** Keep no activations and compute them again on the way back: less memory, the same gradients. */
  readonly recompute?: boolean;
  /** Inputs whose gradients the tape is to give. */
  readonly inputGradients?: readonly Inputs[];
}

/** What a UNet says: what it means (epsilon, v …) is the model's {@link Model.prediction}. */
export interface UnetOutputs {
  /** [B, 4, h, w]. */
  readonly prediction: Tensor;
}

/** A UNet on an engine's thread. Its weights never leave it but for files. */
export class Unet extends Handle {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly textWidth: number;
  /** SDXL: width of the pooled text. */
  readonly pooledWidth: number | undefined;
  /** Number of values in all parameters. */
  readonly parameterCount: number;

  private constructor(engine: Engine, id: number, loaded: LoadedUnet) {
    super(engine, id, false);
    this.inChannels = loaded.inChannels;
    this.outChannels = loaded.outChannels;
    this.textWidth = loaded.textWidth;
    this.pooledWidth = loaded.pooledWidth;
    this.parameterCount = loaded.parameters;
  }

  /**
   * Loads a component folder (`…/unet` of a diffusers model). All parameters are frozen.
   *
   * @throws PotstillError naming every missing, unexpected or misshapen key
   */
  static async open(engine: Engine, folder: string, precision: Precision | QuantFormat = 'f32'): Promise<Unet> {
    return new Unet(engine, ...(await allocateFor(engine, (out) => engine.native.loadUnet(out, folder, precision))));
  }

  /**
   * A UNet with random weights, a function of the configuration and the seed.
   *
   * @param config a diffusers `config.json`
   * @param initialisation `training`: as torch's layers start; `normal`: every value random (parity fixtures, benchmarks)
   */
  static async random(
    engine: Engine,
    config: object,
    seed: bigint,
    initialisation: 'training' | 'normal',
    precision: Precision = 'f32',
  ): Promise<Unet> {
    const json = JSON.stringify(config);
    const made = await allocateFor(engine, (out) =>
      engine.native.randomUnet(out, json, seed, initialisation, precision),
    );
    return new Unet(engine, ...made);
  }

  /** Predicts. With `grad`, the prediction is a leaf of what is computed of it, and the tape leads back into the UNet. */
  forward(inputs: UnetInputs): { readonly outputs: UnetOutputs };
  forward<Inputs extends UnetInputName = never>(
    inputs: UnetInputs,
    options: GradOptions<Inputs>,
  ): { readonly outputs: UnetOutputs; readonly tape: Tape<'prediction', Inputs> };
  forward(inputs: UnetInputs, options?: GradOptions<UnetInputName>): { outputs: UnetOutputs; tape?: Tape } {
    const handles = {
      sample: inputs.sample.id,
      timesteps: inputs.timesteps,
      encoderHiddenStates: inputs.encoderHiddenStates.id,
      ...(inputs.textEmbeds === undefined ? {} : { textEmbeds: inputs.textEmbeds.id }),
      ...(inputs.timeIds === undefined ? {} : { timeIds: inputs.timeIds.id }),
    };
    const [batch = 0, , ...size] = inputs.sample.shape;
    const shape = [batch, this.outChannels, ...size];
    const unet = this.id;
    const out = this.engine.allocate();
    if (options === undefined) {
      this.engine.native.unetForward(out, unet, handles);
      return { outputs: { prediction: new Tensor(this.engine, out, shape) } };
    }
    const inputGradients = [...(options.inputGradients ?? [])];
    const tape = this.engine.allocate();
    this.engine.native.unetForward(out, unet, handles, {
      tape,
      recompute: options.recompute ?? false,
      inputGradients,
    });
    const wanted = inputGradients.flatMap((name) => {
      const tensor = inputs[name];
      return tensor === undefined ? [] : [{ name, tensor }];
    });
    return {
      outputs: { prediction: new Tensor(this.engine, out, shape) },
      tape: new Tape(this.engine, tape, ['prediction'], wanted),
    };
  }

  /** Names and shapes of the parameters, in diffusers' layout. */
  async parameters(): Promise<readonly Parameter[]> {
    return unwrap(await this.engine.native.unetParameters(this.id));
  }

  /** Trains all parameters, none, or those named; takes effect at the next forward. */
  setTrainable(which: 'all' | 'none' | readonly string[]): void {
    if (typeof which === 'string') this.engine.native.setWholeUnetTrainable(this.id, which === 'all');
    else this.engine.native.setUnetTrainable(this.id, [...which]);
  }

  /** The gradients that tapes have gathered for parameters, by their names; an error at the next read where there is none. */
  gradients(parameters: readonly Parameter[]): Tensor[] {
    const outs = parameters.map(() => this.engine.allocate());
    const names = parameters.map(({ name }) => name);
    this.engine.native.unetGradients(outs, this.id, names);
    return parameters.map(({ shape }, index) => new Tensor(this.engine, outs[index] ?? 0, shape));
  }

  /** Forgets the gradients that tapes have gathered. */
  zeroGradients(): void {
    this.engine.native.zeroUnetGradients(this.id);
  }

  /** SHA-256 over the weights as little-endian f32 in diffusers' layout, in the order of the names. */
  async digest(): Promise<string> {
    return unwrap(await this.engine.native.unetDigest(this.id));
  }

  /** Writes a diffusers component folder: `config.json` and weights. */
  async saveFolder(folder: string, dtype: 'f16' | 'f32'): Promise<void> {
    unwrap(await this.engine.native.saveUnetFolder(this.id, folder, dtype));
  }

  /** Writes the weights, exactly, to one safetensors file: for checkpoints. */
  async saveWeights(file: string): Promise<void> {
    unwrap(await this.engine.native.saveUnetWeights(this.id, file));
  }

  /** Overwrites the weights with those of {@link Unet.saveWeights}. */
  async loadWeights(file: string): Promise<void> {
    unwrap(await this.engine.native.loadUnetWeights(this.id, file));
  }
}
