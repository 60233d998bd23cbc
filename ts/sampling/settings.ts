import type { SamplerKind, Spacing } from '../native/index.ts';
import type { Size, SizeConditioning } from './conditioning.ts';

/**
 * How a prompt is read. `weighted`: as ComfyUI's users know it, of any length, with `(words:1.2)` and `embedding:name`.
 * `plain`: as it is, the first 77 tokens, as diffusers encodes it.
 */
export type PromptSyntax = 'weighted' | 'plain';

/** What stands for an empty negative prompt: its encoding, or zeros, as some SDXL models were trained with. */
export type Unconditional = 'encode' | 'zeros';

/** What decides a picture, its networks aside. */
export interface PictureSettings extends Size {
  readonly prompt: string;
  /** What guidance leads away from; empty by default. */
  readonly negative?: string | undefined;
  /** `weighted` by default. */
  readonly syntax?: PromptSyntax | undefined;
  /** Folder of the embeddings that prompts name. */
  readonly embeddings?: string | undefined;
  /** `encode` by default. */
  readonly unconditional?: Unconditional | undefined;
  /** Layers of the text encoder to leave out. */
  readonly clipSkip?: number | undefined;
  readonly sampler: SamplerKind;
  /** The sampler's own, as in diffusers, unless given. */
  readonly spacing?: Spacing | undefined;
  /** Noise levels of Karras et al. (`euler`, `dpmpp-2m`). */
  readonly karras?: boolean | undefined;
  /** Share of fresh noise, 0 to 1 (`ddim`, `tcd`). */
  readonly eta?: number | undefined;
  readonly steps: number;
  /** Scale of classifier-free guidance; 1 is none. */
  readonly guidance: number;
  /** Share by which the guided prediction is brought back to the conditional one's deviation; 0 by default. */
  readonly guidanceRescale?: number | undefined;
  /** The first steps by another network, which keeps a distilled student's pictures diverse. */
  readonly base?: BaseSteps | undefined;
  /** Of the `philox` noise. */
  readonly seed: bigint;
  /** SDXL: what it is told about the picture's size; the picture's own by default. */
  readonly sizes?: SizeConditioning | undefined;
}

/** Steps by another network than the rest. */
export interface BaseSteps {
  readonly steps: number;
  /** Its own scale of guidance. */
  readonly guidance: number;
}
