import { inputError } from '../errors.ts';
import {
  applyAdapter,
  componentFolder,
  type Engine,
  encodePng,
  type Model,
  openModel,
  type PredictionKind,
  scope,
  type Tensor,
  TextEncoder,
  type Unet,
  Vae,
  type WeightedAdapter,
} from '../native/index.ts';
import { type Conditioning, repeat, type Size } from './conditioning.ts';
import { stepNoise, unitNoise } from './noise.ts';
import { withPictureText } from './picture-text.ts';
import { asKind, averaged, type GuidanceOptions, guided, hybrid, type Predictor } from './predictor.ts';
import { condition, type PromptOptions, promptConditions } from './prompt-conditions.ts';
import { sampleLatents } from './sample-latents.ts';
import type { PictureSettings } from './settings.ts';

/** A UNet and its share of the prediction. */
export interface WeightedUnet {
  readonly unet: Unet;
  /** Shares are normalised. */
  readonly weight: number;
  /** What it predicts. */
  readonly prediction: PredictionKind;
}

/** How to follow pictures being made, and stop it. */
export interface PaintingOptions {
  /** Several pictures at once, a row each; the settings' own seed by default. */
  readonly seeds?: readonly bigint[] | undefined;
  /** What makes the first steps where `settings.base` says so. */
  readonly base?: readonly WeightedUnet[] | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onStep?: ((done: number) => void) | undefined;
}

/** Whether pictures are decoded by tiles: `auto` does so from more pixels than {@link MOST_WHOLE_PIXELS}. */
export type VaeTiling = 'auto' | 'on' | 'off';

/** A picture of so many pixels is decoded as a whole: 1024², which SDXL was made for. */
export const MOST_WHOLE_PIXELS = 1024 * 1024;

/** What turns prompts into pictures around a UNet: a model's text encoders, noise schedule and VAE. */
export class Painter implements Disposable {
  readonly model: Model;
  readonly #engine: Engine;
  readonly #text: TextEncoder;
  readonly #ownsText: boolean;
  readonly #vae: Vae;

  private constructor(
    engine: Engine,
    model: Model,
    { text, owned }: { readonly text: TextEncoder; readonly owned: boolean },
    vae: Vae,
  ) {
    this.#engine = engine;
    this.model = model;
    this.#text = text;
    this.#ownsText = owned;
    this.#vae = vae;
  }

  /**
   * Loads everything but the UNet from a model's folder.
   *
   * @param options.text a model whose text encoders are taken in place of the model's own, or encoders that are there,
   *   which stay their owner's
   * @param options.vae a VAE's component folder, in place of the model's own
   */
  static async open(
    engine: Engine,
    folder: string,
    options: { readonly text?: string | TextEncoder | undefined; readonly vae?: string | undefined } = {},
  ): Promise<Painter> {
    const model = await openModel(engine, folder);
    const { text: given = folder } = options;
    const text = typeof given === 'string' ? await TextEncoder.open(engine, given) : given;
    const owned = text !== given;
    try {
      return new Painter(
        engine,
        model,
        { text, owned },
        await Vae.open(engine, options.vae ?? componentFolder(model, 'vae'), model.kind),
      );
    } catch (thrown) {
      if (owned) text.dispose();
      model.schedule.dispose();
      throw thrown;
    }
  }

  /** Lays adapters into a UNet of this model and into the text encoders: from now on every picture has them. */
  async apply(adapters: readonly WeightedAdapter[], unet: Unet): Promise<void> {
    for (const adapter of adapters) await applyAdapter(adapter, this.model.folder, { unet, text: this.#text });
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
  condition(prompt: string, size: Size, options: PromptOptions = {}): Promise<Conditioning> {
    return condition(this.#engine, this.#text, prompt, size, options);
  }

  /** The unit noise of a seed, [1, 4, h, w]: the same for every network that is to be compared. */
  noise(seed: bigint, size: Size): Tensor {
    return unitNoise(this.#engine, [seed], this.#latentShape(size));
  }

  /** Final latents of pictures, [B, 4, h, w], by one network or the weighted mean of several. */
  async latents(
    networks: readonly WeightedUnet[],
    settings: PictureSettings,
    { seeds = [settings.seed], base = [], signal, onStep }: PaintingOptions = {},
  ): Promise<Tensor> {
    const { guidance, guidanceRescale: rescale, steps, sampler, spacing, karras, eta } = settings;
    const { schedule } = this.model;
    const shape = this.#latentShape(settings);
    return scope(async () => {
      const isGuided = guidance !== 1 || (settings.base !== undefined && settings.base.guidance !== 1);
      const told = await this.#conditions(settings, seeds.length, isGuided);
      const student = this.#predictor(networks, told, { guidance, rescale });
      const predict =
        settings.base === undefined
          ? student
          : hybrid(
              this.#predictor(base, told, { guidance: settings.base.guidance, rescale }),
              settings.base.steps,
              student,
            );
      return sampleLatents({
        ...{ schedule, sampler, spacing, karras, eta, steps, predict, signal, onStep },
        noise: unitNoise(this.#engine, seeds, shape),
        stepNoise: stepNoise(this.#engine, seeds, shape),
      });
    });
  }

  /** Pixels in about [−1, 1], [B, 3, H, W], of latents. */
  decode(latents: Tensor, tiling: VaeTiling = 'auto'): Tensor {
    const [, , height = 0, width = 0] = latents.shape;
    const pixels = height * width * this.downscale ** 2;
    const isTiled = tiling === 'on' || (tiling === 'auto' && pixels > MOST_WHOLE_PIXELS);
    return isTiled ? this.#vae.decodeTiled(latents) : this.#vae.decode(latents);
  }

  /** A picture as a PNG that carries its settings. */
  async paint(
    networks: readonly WeightedUnet[],
    settings: PictureSettings,
    options: PaintingOptions = {},
  ): Promise<Uint8Array> {
    return scope(async () => {
      const latents = await this.latents(networks, settings, options);
      return withPictureText(await encodePng(this.decode(latents)), settings, { kind: this.model.kind });
    });
  }

  dispose(): void {
    if (this.#ownsText) this.#text.dispose();
    this.#vae.dispose();
    this.model.schedule.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Conditional and, for guidance, unconditional rows of a picture's settings. */
  async #conditions(
    settings: PictureSettings,
    rows: number,
    isGuided: boolean,
  ): Promise<{ cond: Conditioning; uncond: Conditioning | undefined }> {
    const { cond, uncond } = await promptConditions(this.#engine, this.#text, settings, isGuided);
    return { cond: repeat(cond, rows), uncond: uncond && repeat(uncond, rows) };
  }

  #predictor(
    networks: readonly WeightedUnet[],
    { cond, uncond }: { cond: Conditioning; uncond: Conditioning | undefined },
    guidance: GuidanceOptions,
  ): Predictor {
    const { schedule, prediction } = this.model;
    return averaged(
      networks.map(({ unet, weight, prediction: kind }) => {
        return { weight, predict: asKind(guided(unet, cond, uncond, guidance), kind, prediction, schedule) };
      }),
    );
  }

  #latentShape({ width, height }: Size): readonly number[] {
    const { downscale } = this;
    if (width % downscale !== 0 || height % downscale !== 0 || !(width > 0) || !(height > 0)) {
      throw inputError('ERR_IMAGE_SIZE', `a picture of ${width}x${height} has no latents`, {
        remedy: `Both sides must be multiples of ${downscale}.`,
      });
    }
    return [this.model.latentChannels, height / downscale, width / downscale];
  }
}

/** Side of the latents of models that do not state it: SD1.5's. */
const DEFAULT_LATENT_SIDE = 64;
