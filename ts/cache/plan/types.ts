/**
 * The plans of a cache's components: what fixes the content of each, as canonical JSON in `plan.json`. Two builds with
 * equal plans hold the same records; anything that does not change a record (places, dates, machines, the version of
 * potstill) stands in no plan. Digests are SHA-256 in lower-case hex.
 */

/** Version of the plans, and of how pixels, noise and timesteps are made from them. */
export const PLAN_VERSION = 1;

/** How numbers are stored. */
export type StorageDtype = 'f16' | 'f32';

/** What every plan begins with. */
interface PlanHead<Component extends string> {
  readonly format: 'potstill-cache';
  readonly version: typeof PLAN_VERSION;
  readonly component: Component;
  readonly dtype: StorageDtype;
  /** Records per shard file; the last shard may hold fewer. */
  readonly shardRecords: number;
}

/** The files that fix what a model computes. */
export interface ModelDigest {
  /** Digest of each weight file, by its name within the component's folder. */
  readonly weights: Readonly<Record<string, string>>;
  /** Digest of the canonical JSON of `config.json` without the keys that begin with `_` (who saved it, and with what). */
  readonly config: string;
}

/** Latents: record i shows `views[i]`. */
export interface LatentsPlan extends PlanHead<'latents'> {
  readonly vae: ModelDigest & {
    /** Latents are the VAE's output times this. */
    readonly scalingFactor: number;
    /** A record's shape is [channels, height / downscale, width / downscale] of its view. */
    readonly channels: number;
    readonly downscale: number;
    /** Latents are the mean of the VAE's distribution. */
    readonly sampling: 'mean';
  };
  /** Sorted by size, then image, then view; no two alike. */
  readonly views: readonly { readonly image: string; readonly view: string }[];
}

/** One text encoder with its tokenizer. */
export interface EncoderDigest extends ModelDigest {
  /** Digest of each tokenizer file, by its name within the tokenizer's folder. */
  readonly tokenizer: Readonly<Record<string, string>>;
}

/** Sizes of encoded text. */
export interface TextShape {
  readonly tokens: number;
  readonly width: number;
  readonly pooled?: number | undefined;
}

/** Text: record i is the encoding of `captions[i]`. */
export interface TextPlan extends PlanHead<'text'> {
  /** One for SD1.5, two for SDXL. */
  readonly encoders: readonly EncoderDigest[];
  /** A record's shape is [tokens, width]; SDXL's pooled text is [pooled]. */
  readonly shape: TextShape;
  /** Sorted, no two alike; the first is the empty one, the unconditional text. */
  readonly captions: readonly string[];
}

/** A raw prediction with the sample's caption, or with the unconditional text. */
export type PredictionField = 'cond' | 'uncond';

/** A draw that is not derived from a key. */
export interface GivenDraw {
  /** In decimal, for it may have 64 bits. */
  readonly seed: string;
  readonly timestep: number;
  /** BLAKE3 of the stored noise, in hex. */
  readonly noise: string;
}

/** What a teacher's matrices are held in. */
export type TeacherStorage = 'f32' | 'bf16' | 'nf4' | 'int8' | 'fp8';

/** A teacher: record s·draws + k is its prediction for draw k of `samples[s]`. */
export interface TeacherPlan extends PlanHead<'teacher'> {
  /** Name of the teacher in the recipe; its folder in the cache. */
  readonly id: string;
  readonly unet: ModelDigest;
  readonly prediction: 'epsilon' | 'v' | 'x0' | 'flow';
  /** The noise schedule: its length, and ᾱ of every timestep as little-endian f32 in hex. */
  readonly schedule: { readonly timesteps: number; readonly alphasCumprod: string };
  /** Laid over the weights, in order: digest of the file (of a folder, of its files' digests by name) and strength. */
  readonly adapters: readonly { readonly file: string; readonly scale: number }[];
  /** What the matrices are held in while they predict. */
  readonly storage: TeacherStorage;
  readonly fields: readonly PredictionField[];
  /** What `uncond` means: the encoding of the empty caption, or zeros. */
  readonly unconditional: 'empty';
  readonly noise: {
    /** `stored`: the noise lies beside the predictions, for it came from elsewhere; draws are {@link given}. */
    readonly generator: 'philox' | 'torch' | 'stored';
    readonly baseSeed: number;
  };
  /** Of stored noise: the draw of every record. */
  readonly given?: readonly GivenDraw[] | undefined;
  /** K: draws of (timestep, noise) per sample's view. */
  readonly draws: number;
  /** Half-open range that the timesteps are drawn from. */
  readonly timesteps: readonly [min: number, max: number];
  /** Digests of the plans whose records are predicted on. */
  readonly latents: string;
  readonly text: string;
  /** Distinct pairs of view (index into the latents' plan) and caption (index into the text's), sorted by both. */
  readonly samples: readonly (readonly [view: number, caption: number])[];
  /** SDXL: height, width, crop top, crop left, target height, target width of every view. */
  readonly timeIds?: readonly (readonly number[])[] | undefined;
}

/** The plan of any component. */
export type Plan = LatentsPlan | TextPlan | TeacherPlan;
