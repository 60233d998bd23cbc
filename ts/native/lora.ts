import { join } from 'node:path';
import { inputError } from '../errors.ts';
import type { Engine } from './engine.ts';
import type {
  AppliedAdapter,
  AttachedLora,
  LoraFile,
  LoraSettings as NativeSettings,
  Parameter,
} from './generated/binding.js';
import { Handle } from './handle.ts';
import { allocateFor } from './load-handle.ts';
import { unwrap } from './outcome.ts';
import type { TextEncoder } from './text-encoder.ts';
import { type Precision, type QuantFormat, Unet } from './unet.ts';

/** A LoRA that is to be trained. */
export interface LoraSettings {
  readonly rank: number;
  /** The product of the factors is multiplied by alpha / rank. */
  readonly alpha: number;
  /** Presets (`attention`, `transformers`, `all`) and patterns of diffusers' paths, `*` for any number of characters. */
  readonly targets: readonly string[];
  /** Layers with a rank and an alpha of their own; the last that chooses a layer counts. */
  readonly blocks?: readonly { readonly layers: string; readonly rank: number; readonly alpha: number }[] | undefined;
  /** Trains the lengths of the weights' rows too (DoRA). */
  readonly dora?: boolean | undefined;
  /** Of the starting values. */
  readonly seed: bigint;
}

/** An adapter's file, and how strong it is to be. */
export interface WeightedAdapter {
  readonly file: string;
  readonly weight: number;
}

/**
 * A LoRA beside the layers of a UNet, or of text encoders. It is part of every prediction, or encoding, for as long as the
 * network lives.
 */
export class Lora extends Handle {
  /** Number of layers that it sits on. */
  readonly layers: number;
  /** Number of values in all parameters. */
  readonly parameterCount: number;

  private constructor(engine: Engine, id: number, { layers, parameters }: AttachedLora) {
    super(engine, id, false);
    this.layers = layers;
    this.parameterCount = parameters;
  }

  /**
   * Attaches a new LoRA, frozen, which leaves the predictions as they are until it is trained.
   *
   * @throws PotstillError `ERR_ADAPTER_INPUT` when the targets fit no layer
   */
  static async create(unet: Unet, settings: LoraSettings): Promise<Lora> {
    const { engine } = unet;
    const given = nativeSettings(settings);
    return new Lora(engine, ...(await allocateFor(engine, (out) => engine.native.createLora(out, unet.id, given))));
  }

  /**
   * Attaches a new LoRA to text encoders, frozen. What it trains belongs to the UNet's: one optimizer, one average, one
   * place for gradients. Its targets have the encoder before the path: `text_encoder_2.*`.
   *
   * @throws PotstillError as {@link Lora.create}
   */
  static async createOnText(text: TextEncoder, beside: Unet, settings: LoraSettings): Promise<Lora> {
    const { engine } = text;
    const given = nativeSettings(settings);
    const attach = (out: number) => engine.native.createTextLora(out, text.id, beside.id, given);
    return new Lora(engine, ...(await allocateFor(engine, attach)));
  }

  /**
   * Attaches what an adapter's file does to a UNet, frozen. For adapters of other kinds than LoRA, and for the text
   * encoders: {@link applyAdapter}.
   *
   * @param model what the UNet comes from: its layers have the names that the file's keys are compared with
   */
  static async open(unet: Unet, { file, weight }: WeightedAdapter, model: string): Promise<Lora> {
    const { engine } = unet;
    const attached = await allocateFor(engine, (out) => engine.native.attachLora(out, unet.id, file, weight, model));
    return new Lora(engine, ...attached);
  }

  /**
   * Attaches what an adapter's file does to text encoders, frozen, to be trained beside a UNet as
   * {@link Lora.createOnText}'s.
   *
   * @param model as {@link Lora.open}'s
   * @throws PotstillError `ERR_ADAPTER_INPUT` when it does nothing to them, or holds what is no LoRA
   */
  static async openOnText(
    text: TextEncoder,
    beside: Unet,
    { file, weight }: WeightedAdapter,
    model: string,
  ): Promise<Lora> {
    const { engine } = text;
    const attach = (out: number) => engine.native.attachTextLora(out, text.id, beside.id, file, weight, model);
    return new Lora(engine, ...(await allocateFor(engine, attach)));
  }

  /** Of every layer `PATH.lora_A.weight` (down) and `PATH.lora_B.weight` (up); their gradients are the UNet's to give. */
  async parameters(): Promise<readonly Parameter[]> {
    return unwrap(await this.engine.native.loraParameters(this.id));
  }

  /** Trains it, or freezes it; takes effect at the next forward. */
  setTrainable(trainable: boolean): void {
    this.engine.native.setLoraTrainable(this.id, trainable);
  }

  /**
   * What `ask` enqueues is as if the LoRA were not attached: the model that it sits on, in the same memory. Nothing whose
   * tape is run backward later may be asked, for recomputed activations would be those with it.
   */
  without<Result>(ask: () => Result): Result {
    this.engine.native.switchLora(this.id, false);
    try {
      return ask();
    } finally {
      this.engine.native.switchLora(this.id, true);
    }
  }

  /** Writes the parameters, exactly, to one safetensors file: for checkpoints. */
  async saveWeights(file: string): Promise<void> {
    unwrap(await this.engine.native.saveLoraWeights(this.id, file));
  }

  /** Overwrites the parameters with those of {@link Lora.saveWeights}. */
  async loadWeights(file: string): Promise<void> {
    unwrap(await this.engine.native.loadLoraWeights(this.id, file));
  }

  /**
   * Writes an adapter for others to load, where nothing is yet.
   *
   * @param about dialect (kohya's by default), dtype and what the file says of itself
   * @param text the one on text encoders that goes into the same file
   */
  async save(file: string, about: LoraFile, text?: Lora): Promise<void> {
    unwrap(await this.engine.native.saveLora(this.id, text?.id, file, about));
  }
}

function nativeSettings({ rank, alpha, targets, blocks = [], dora = false, seed }: LoraSettings): NativeSettings {
  return { rank, alpha, targets: [...targets], blocks: blocks.map((block) => ({ ...block })), dora, seed };
}

/**
 * Lays an adapter of any kind into the weights of a UNet and of text encoders, for good and at no cost later.
 *
 * @param model what they come from
 * @returns how many layers were changed, and how many would be in networks that were not given
 * @throws PotstillError `ERR_ADAPTER_KEYS` with every key of the file that names no layer of the model or does not fit it
 */
export async function applyAdapter(
  { file, weight }: WeightedAdapter,
  model: string,
  networks: { readonly unet: Unet; readonly text?: TextEncoder | undefined },
): Promise<AppliedAdapter> {
  const { unet, text } = networks;
  return unwrap(await unet.engine.native.applyAdapter(file, weight, model, unet.id, text?.id));
}

/**
 * The UNet of a model with adapters laid into its weights, in order.
 *
 * @throws PotstillError as {@link applyUnetAdapter}
 */
export async function openAdaptedUnet(
  engine: Engine,
  model: string,
  adapters: readonly WeightedAdapter[],
  precision: Precision | QuantFormat = 'f32',
): Promise<Unet> {
  const unet = await Unet.open(engine, join(model, 'unet'), precision);
  try {
    for (const adapter of adapters) await applyUnetAdapter(adapter, model, unet);
    return unet;
  } catch (thrown) {
    unet.dispose();
    throw thrown;
  }
}

/**
 * {@link applyAdapter} where the conditioning is fixed, so that nothing can be done to the text encoders: the adapter must
 * be one of the UNet alone. After an error the UNet may have been changed.
 *
 * @throws PotstillError `ERR_ADAPTER_INPUT` when it does something to a text encoder, or nothing to the UNet
 */
export async function applyUnetAdapter(adapter: WeightedAdapter, model: string, unet: Unet): Promise<void> {
  const { unet: layers, leftOver } = await applyAdapter(adapter, model, { unet });
  if (leftOver === 0 && layers > 0) return;
  throw inputError('ERR_ADAPTER_INPUT', `changes ${layers} layers of the UNet and ${leftOver} of text encoders`, {
    where: adapter.file,
    remedy:
      'The texts are encoded already, without it: give an adapter of the UNet alone, or draw with it (`sample --lora`).',
  });
}
