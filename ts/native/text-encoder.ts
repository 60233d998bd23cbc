import type { Engine } from './engine.ts';
import type { LoadedTextEncoder } from './generated/binding.js';
import { Handle } from './handle.ts';
import { allocateFor } from './load-handle.ts';
import { unwrap } from './outcome.ts';
import { Tensor } from './tensor.ts';

/** Tokens of an encoded prompt, of every known model. */
const TOKENS = 77;

/** Encoded prompts, a row each. */
export interface EncodedPrompts {
  /** [prompts, 77, width]. */
  readonly encoderHiddenStates: Tensor;
  /** SDXL: [prompts, 1280]. */
  readonly pooled: Tensor | undefined;
  /** Ids of the tokens, and those of SDXL's second tokenizer. */
  readonly tokenIds: readonly (readonly number[])[];
  readonly tokenIds2: readonly (readonly number[])[] | undefined;
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

  /** @param clipSkip how many layers before the one that the model was trained with to take the states from */
  async encode(prompts: readonly string[], clipSkip = 0): Promise<EncodedPrompts> {
    const { engine, width, pooledWidth } = this;
    const hidden = engine.allocate();
    const pooled = pooledWidth === undefined ? undefined : engine.allocate();
    try {
      const outcome = await engine.native.encodePrompts(hidden, pooled, this.id, [...prompts], clipSkip);
      const { tokenIds, tokenIds2 } = unwrap(outcome);
      return {
        encoderHiddenStates: new Tensor(engine, hidden, [prompts.length, TOKENS, width]),
        pooled: pooled === undefined ? undefined : new Tensor(engine, pooled, [prompts.length, pooledWidth ?? 0]),
        tokenIds,
        tokenIds2,
      };
    } catch (thrown) {
      engine.release(pooled === undefined ? [hidden] : [hidden, pooled]);
      throw thrown;
    }
  }
}
