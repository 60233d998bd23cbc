/** A key that is known and not used. */
export interface UnusedKey {
  readonly key: string;
  readonly reason: string;
}

/** One network of a checkpoint, every key accounted for. */
export interface ComponentReport {
  readonly component: 'unet' | 'vae' | 'text_encoder' | 'text_encoder_2';
  /** Whose names its tensors have. */
  readonly names: 'diffusers' | 'ldm' | 'openclip';
  /** Parameter tensors found as the model asks for them. */
  readonly matched: number;
  /** Of these, how many are kept otherwise than diffusers keeps them. */
  readonly converted: {
    readonly renamed: number;
    readonly squeezed: number;
    readonly transposed: number;
    readonly split: number;
  };
  readonly parameters: number;
  readonly bytes: number;
  /** Number of tensors by dtype. */
  readonly dtypes: Readonly<Record<string, number>>;
  /** What of all this is in codes. */
  readonly quantized: { readonly tensors: number; readonly parameters: number; readonly bytes: number };
  readonly unused: readonly UnusedKey[];
  readonly missing: readonly string[];
  readonly unexpected: readonly string[];
  readonly misshapen: readonly {
    readonly key: string;
    readonly wanted: readonly number[];
    readonly found: readonly number[];
  }[];
  readonly wrongDtype: readonly { readonly key: string; readonly dtype: string }[];
  /** The configuration: stated, or implied by keys and shapes. */
  readonly config: Readonly<Record<string, unknown>>;
}

/** What a checkpoint holds. */
export interface CheckpointReport {
  readonly path: string;
  readonly layout: 'file' | 'folder';
  /** Null without a UNet. */
  readonly kind: 'sd15' | 'sdxl' | null;
  readonly prediction: 'epsilon' | 'v' | 'x0' | 'flow';
  readonly zeroTerminalSnr: boolean;
  readonly parameters: number;
  readonly bytes: number;
  /** Whether every key that is asked for is there, and no other. */
  readonly sound: boolean;
  readonly components: readonly ComponentReport[];
  /** Keys of no component that are known not to matter. */
  readonly unused: readonly UnusedKey[];
  /** Keys that belong to nothing known. */
  readonly unexpected: readonly string[];
  readonly scheduler: Readonly<Record<string, unknown>>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly files: readonly { readonly path: string; readonly bytes: number; readonly sha256?: string }[];
}
