import type { Engine } from './engine.ts';
import type { LoadedTextEncoder, Outcome, TokenIds } from './generated/binding.js';
import { Handle } from './handle.ts';
import { allocateFor } from './load-handle.ts';
import { unwrap } from './outcome.ts';
import { Tape } from './tape.ts';
import { Tensor } from './tensor.ts';
import type { Unet } from './unet.ts';

/** Tokens of a sequence, of every known model. */
const TOKENS = 77;

/** Encoded prompts, a row each. */
export interface EncodedPrompts {
  /** [prompts, 77, width]; of a weighted prompt [1, 77 · sequences, width]. */
  readonly encoderHiddenStates: Tensor;
  /** SDXL: [prompts, 1280]. */
  readonly pooled: Tensor | undefined;
  /** Ids of the tokens, and those of SDXL's second tokenizer; of a weighted prompt a row for each of its sequences. */
  readonly tokenIds: readonly (readonly number[])[];
  readonly tokenIds2: readonly (readonly number[])[] | undefined;
}

/** What a UNet is told of prompts, a row each. */
export interface TextOutputs {
  /** [prompts, 77, width]. */
  readonly encoderHiddenStates: Tensor;
  /** SDXL: [prompts, 1280]. */
  readonly textEmbeds?: Tensor | undefined;
}

/** The tokenizers and text encoders of a model: one of each, or SDXL's two. */
export class TextEncoder extends Handle {
  readonly width: number;
  readonly pooledWidth: number | undefined;

  private constructor(engine: Engine, id: number, loaded: LoadedTextEncoder) {
    super(engine, id, false);
    this.width = loaded.width;
    this.pooledWidth = loaded.pooledWidth;
  }

  /** Loads them from a model's folder. */
  static async open(engine: Engine, modelFolder: string): Promise<TextEncoder> {
    const loaded = await allocateFor(engine, (out) => engine.native.loadTextEncoder(out, modelFolder));
    return new TextEncoder(engine, ...loaded);
  }

  /**
   * Encoders whose every weight is random, a function of the configurations and the seeds, behind CLIP's own tokenizer.
   *
   * @param encoders one, or SDXL's two: transformers' `config.json` of each, and its seed
   */
  static async random(
    engine: Engine,
    encoders: readonly { readonly config: object; readonly seed: bigint }[],
  ): Promise<TextEncoder> {
    const configs = encoders.map(({ config }) => JSON.stringify(config));
    const seeds = encoders.map(({ seed }) => seed);
    const made = await allocateFor(engine, (out) => engine.native.randomTextEncoder(out, configs, seeds));
    return new TextEncoder(engine, ...made);
  }

  /**
   * Prompts as they are, the first 77 tokens of each, as diffusers encodes them.
   *
   * @param clipSkip how many layers before the one that the model was trained with to take the states from
   */
  async encode(prompts: readonly string[], clipSkip = 0): Promise<EncodedPrompts> {
    const { native } = this.engine;
    return this.#encode(prompts.length, (hidden, pooled) =>
      native.encodePrompts(hidden, pooled, this.id, [...prompts], clipSkip),
    );
  }

  /**
   * {@link TextEncoder.encode} without a wait: it is enqueued like every operation, and its errors surface at the next read.
   * With `trainedBeside`, the outputs are leaves of what is computed of them, and the tape leads back into LoRAs on the
   * encoders (`Lora.createOnText`), whose gradients are gathered with that UNet's.
   */
  forward(prompts: readonly string[]): { readonly outputs: TextOutputs };
  forward(
    prompts: readonly string[],
    options: { readonly trainedBeside: Unet },
  ): { readonly outputs: TextOutputs; readonly tape: Tape<keyof TextOutputs, never> };
  forward(
    prompts: readonly string[],
    options?: { readonly trainedBeside: Unet },
  ): { outputs: TextOutputs; tape?: Tape<keyof TextOutputs, never> } {
    const { engine, width, pooledWidth } = this;
    const rows = prompts.length;
    const shapes = { encoderHiddenStates: [rows, TOKENS, width] };
    const all = Object.entries(pooledWidth === undefined ? shapes : { ...shapes, textEmbeds: [rows, pooledWidth] });
    const made = all.map(([name, shape]) => [name, new Tensor(engine, engine.allocate(), shape)] as const);
    const outs = made.map(([, tensor]) => tensor.id);
    const outputs = Object.fromEntries(made) as unknown as TextOutputs;
    if (options === undefined) {
      engine.native.textForward(outs, this.id, [...prompts]);
      return { outputs };
    }
    const tape = engine.allocate();
    engine.native.textForward(outs, this.id, [...prompts], tape, options.trainedBeside.id);
    const names = made.map(([name]) => name);
    return { outputs, tape: new Tape(engine, tape, names, []) };
  }

  /**
   * A prompt in the language of ComfyUI's users: of any length, with `(words:1.2)` and `embedding:name`.
   *
   * @param options.embeddings folder with `name.safetensors`
   * @throws PotstillError when an embedding is missing or made for other encoders
   */
  async encodeWeighted(
    prompt: string,
    options: { readonly clipSkip?: number | undefined; readonly embeddings?: string | undefined } = {},
  ): Promise<EncodedPrompts> {
    const { clipSkip = 0, embeddings } = options;
    const { native } = this.engine;
    return this.#encode(1, (hidden, pooled) =>
      native.encodeWeightedPrompt(hidden, pooled, this.id, prompt, clipSkip, embeddings),
    );
  }

  async #encode(
    rows: number,
    run: (hidden: number, pooled: number | undefined) => Promise<Outcome<TokenIds>>,
  ): Promise<EncodedPrompts> {
    const { engine, width, pooledWidth } = this;
    const hidden = engine.allocate();
    const pooled = pooledWidth === undefined ? undefined : engine.allocate();
    try {
      const { tokenIds, tokenIds2 } = unwrap(await run(hidden, pooled));
      // As many sequences as the encoder with fewer of them made.
      const sequences = Math.min(tokenIds.length, tokenIds2?.length ?? tokenIds.length) / rows;
      return {
        encoderHiddenStates: new Tensor(engine, hidden, [rows, sequences * TOKENS, width]),
        pooled: pooled === undefined ? undefined : new Tensor(engine, pooled, [rows, pooledWidth ?? 0]),
        tokenIds,
        tokenIds2,
      };
    } catch (thrown) {
      engine.release(pooled === undefined ? [hidden] : [hidden, pooled]);
      throw thrown;
    }
  }
}
