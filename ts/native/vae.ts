import { inputError } from '../errors.ts';
import type { Engine } from './engine.ts';
import type { LoadedVae } from './generated/binding.js';
import { Handle } from './handle.ts';
import { allocateFor } from './load-handle.ts';
import type { ModelKind } from './model.ts';
import { enqueueTensor, type Tensor } from './tensor.ts';

/** Tiles of a picture, in latents along each side. */
export interface Tiling {
  readonly tile: number;
  /** Least overlap of neighbours, at most half of the tile. */
  readonly overlap: number;
}

/** Tiles of 512 pixels that share a quarter with their neighbours, as in diffusers. */
const DEFAULT_TILING: Tiling = { tile: 64, overlap: 16 };

/** A VAE: pictures to latents and back. */
export class Vae extends Handle {
  /** Latents are the encoder's mean times this. */
  readonly scalingFactor: number;
  readonly latentChannels: number;
  /** Pixels per latent, along each side: 8. */
  readonly downscale: number;

  private constructor(engine: Engine, id: number, loaded: LoadedVae) {
    super(engine, id, false);
    this.scalingFactor = loaded.scalingFactor;
    this.latentChannels = loaded.latentChannels;
    this.downscale = loaded.downscale;
  }

  /**
   * Loads `MODEL/vae`, a VAE's own folder, or the VAE in a single file.
   *
   * @param kind of the model that a file with a VAE alone is for: it decides the scaling factor
   */
  static async open(engine: Engine, path: string, kind?: ModelKind): Promise<Vae> {
    return new Vae(engine, ...(await allocateFor(engine, (out) => engine.native.loadVae(out, path, kind))));
  }

  /** A VAE whose every weight is random, a function of the configuration (a diffusers `config.json`) and the seed. */
  static async random(engine: Engine, config: object, seed: bigint): Promise<Vae> {
    const json = JSON.stringify(config);
    return new Vae(engine, ...(await allocateFor(engine, (out) => engine.native.randomVae(out, json, seed))));
  }

  /**
   * Scaled latents (the mean), [B, 4, H/8, W/8], of pixels in [−1, 1], [B, 3, H, W].
   *
   * @throws PotstillError when a side is not a multiple of 8
   */
  encode(pixels: Tensor): Tensor {
    const [batch = 0, , height = 0, width = 0] = pixels.shape;
    const { downscale } = this;
    if (height % downscale !== 0 || width % downscale !== 0) {
      throw inputError('ERR_IMAGE_SIZE', `a picture of ${width}x${height} has no latents`, {
        where: 'vae.encode',
        remedy: `Crop or scale it so that both sides are multiples of ${downscale}.`,
      });
    }
    const shape = [batch, this.latentChannels, height / downscale, width / downscale];
    return enqueueTensor(this.engine, shape, (id) => this.engine.native.vaeEncode(id, this.id, pixels.id));
  }

  /** Pixels, about [−1, 1] and not clamped, [B, 3, 8h, 8w], of scaled latents, [B, 4, h, w]. */
  decode(latents: Tensor): Tensor {
    const [batch = 0, , height = 0, width = 0] = latents.shape;
    const shape = [batch, 3, height * this.downscale, width * this.downscale];
    return enqueueTensor(this.engine, shape, (id) => this.engine.native.vaeDecode(id, this.id, latents.id));
  }

  /**
   * The same by overlapping tiles, whose memory does not grow with the picture. What fits into one tile is decoded as a
   * whole.
   */
  decodeTiled(latents: Tensor, { tile, overlap }: Tiling = DEFAULT_TILING): Tensor {
    const [batch = 0, , height = 0, width = 0] = latents.shape;
    const shape = [batch, 3, height * this.downscale, width * this.downscale];
    return enqueueTensor(this.engine, shape, (id) =>
      this.engine.native.vaeDecodeTiled(id, this.id, latents.id, tile, overlap),
    );
  }
}
