import { inputError } from '../errors.ts';
import {
  componentFolder,
  type Engine,
  encodePng,
  type Model,
  noise,
  openModel,
  type PredictionKind,
  type SamplerKind,
  type Spacing,
  scope,
  type Tensor,
  TextEncoder,
  type Unet,
  Vae,
} from '../native/index.ts';
import { type Conditioning, wholePictureTimeIds } from './conditioning.ts';
import { withText } from './png-text.ts';
import { asKind, averaged, guided } from './predictor.ts';
import { sampleLatents } from './sample-latents.ts';

/** A UNet and its share of the prediction. */
export interface WeightedUnet {
  readonly unet: Unet;
  /** Shares are normalised. */
  readonly weight: number;
  /** What it predicts. */
  readonly prediction: PredictionKind;
}

/** What decides a picture. */
export interface PictureSettings {
  readonly prompt: string;
  /** What guidance leads away from; empty by default. */
  readonly negative?: string | undefined;
  readonly sampler: SamplerKind;
  /** Leading unless given, as in diffusers. */
  readonly spacing?: Spacing | undefined;
  readonly steps: number;
  /** Scale of classifier-free guidance; 1 is none. */
  readonly guidance: number;
  /** Of the `philox` noise. */
  readonly seed: bigint;
  /** Pixels; multiples of 8. */
  readonly width: number;
  readonly height: number;
  /** Layers of the text encoder to leave out. */
  readonly clipSkip?: number | undefined;
}

/** How to follow a picture being made, and stop it. */
export interface PaintingOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onStep?: ((done: number) => void) | undefined;
}

/** What turns prompts into pictures around a UNet: a model's text encoders, noise schedule and VAE. */
export class Painter implements Disposable {
  readonly model: Model;
  readonly #engine: Engine;
  readonly #text: TextEncoder;
  readonly #vae: Vae;

  private constructor(engine: Engine, model: Model, text: TextEncoder, vae: Vae) {
    this.#engine = engine;
    this.model = model;
    this.#text = text;
    this.#vae = vae;
  }

  /**
   * Loads everything but the UNet from a model's folder.
   *
   * @param options.vae a VAE's component folder, in place of the model's own
   */
  static async open(
    engine: Engine,
    folder: string,
    options: { readonly vae?: string | undefined } = {},
  ): Promise<Painter> {
    const model = await openModel(engine, folder);
    const text = await TextEncoder.open(engine, folder);
    try {
      return new Painter(
        engine,
        model,
        text,
        await Vae.open(engine, options.vae ?? componentFolder(model, 'vae'), model.kind),
      );
    } catch (thrown) {
      text.dispose();
      model.schedule.dispose();
      throw thrown;
    }
  }

  /** Pixels per latent, along each side. */
  get downscale(): number {
    return this.#vae.downscale;
  }

  /** Width and height of the pictures that the model was made for. */
  get defaultSize(): number {
    return (this.model.sampleSize ?? DEFAULT_LATENT_SIDE) * this.downscale;
  }

  /** Conditioning of a prompt for pictures of a size, one row. */
  async condition(prompt: string, size: { width: number; height: number }, clipSkip = 0): Promise<Conditioning> {
    const { encoderHiddenStates, pooled: textEmbeds } = await this.#text.encode([prompt], clipSkip);
    const timeIds = textEmbeds && wholePictureTimeIds(this.#engine, size.height, size.width);
    return { encoderHiddenStates, textEmbeds, timeIds };
  }

  /** The unit noise of a seed, [1, 4, h, w]: the same for every network that is to be compared. */
  noise(seed: bigint, { width, height }: { width: number; height: number }): Tensor {
    const { downscale } = this;
    if (width % downscale !== 0 || height % downscale !== 0 || !(width > 0) || !(height > 0)) {
      throw inputError('ERR_IMAGE_SIZE', `a picture of ${width}x${height} has no latents`, {
        remedy: `Both sides must be multiples of ${downscale}.`,
      });
    }
    const shape = [this.model.latentChannels, height / downscale, width / downscale];
    return noise(this.#engine, { generator: 'philox', seeds: [seed], shape });
  }

  /** Final latents of a picture, [1, 4, h, w], by one network or the weighted mean of several. */
  async latents(
    networks: readonly WeightedUnet[],
    settings: PictureSettings,
    { signal, onStep }: PaintingOptions = {},
  ): Promise<Tensor> {
    const { prompt, negative = '', sampler, spacing, steps, guidance, clipSkip } = settings;
    const { schedule, prediction } = this.model;
    return scope(async () => {
      const cond = await this.condition(prompt, settings, clipSkip);
      const uncond = guidance === 1 ? undefined : await this.condition(negative, settings, clipSkip);
      const predictors = networks.map(({ unet, weight, prediction: kind }) => {
        return { weight, predict: asKind(guided(unet, cond, uncond, guidance), kind, prediction, schedule) };
      });
      const start = this.noise(settings.seed, settings);
      const predict = averaged(predictors);
      return sampleLatents({ schedule, sampler, spacing, steps, noise: start, predict, signal, onStep });
    });
  }

  /** Pixels in about [−1, 1], [1, 3, H, W], of latents. */
  decode(latents: Tensor): Tensor {
    return this.#vae.decode(latents);
  }

  /** A picture as a PNG that carries its settings. */
  async paint(
    networks: readonly WeightedUnet[],
    settings: PictureSettings,
    options: PaintingOptions = {},
  ): Promise<Uint8Array> {
    return scope(async () => {
      const latents = await this.latents(networks, settings, options);
      return withText(await encodePng(this.decode(latents)), PARAMETERS, describe(settings));
    });
  }

  dispose(): void {
    this.#text.dispose();
    this.#vae.dispose();
    this.model.schedule.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Side of the latents of models that do not state it: SD1.5's. */
const DEFAULT_LATENT_SIDE = 64;

/** Keyword under which AUTOMATIC1111, ComfyUI and others look for a picture's settings. */
export const PARAMETERS = 'parameters';

/** A picture's settings in the form that other programs read. */
export function describe(settings: PictureSettings): string {
  const { prompt, negative = '', sampler, spacing = 'leading', steps, guidance, seed, width, height } = settings;
  const numbers = `Steps: ${steps}, Sampler: ${sampler}, Spacing: ${spacing}, CFG scale: ${guidance}, Seed: ${seed}, Size: ${width}x${height}`;
  return [prompt, ...(negative === '' ? [] : [`Negative prompt: ${negative}`]), numbers].join('\n');
}
