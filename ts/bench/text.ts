import { type EncodedPrompts, type Engine, scope, TextEncoder } from '../native/index.ts';
import { timed, WEIGHTS_SEED } from './inputs.ts';

/** What is measured. */
export interface TextWorkload {
  /** Prompts at once, of 77 tokens each. */
  readonly batch: number;
}

/** Prompts of a few and of many words; a batch takes them in turn. */
const PROMPTS = [
  'a photograph of an astronaut riding a horse on the moon',
  'an oil painting of a lighthouse at the edge of a cliff in a storm, heavy brush strokes, grey and green, ships far away',
] as const;
/** Between the seeds of one encoder's weights and the next one's: more than an encoder has parameters. */
const SEEDS_OF_ENCODER = 1000n;

/** The text encoders of a model in full size with random weights, and fixed prompts. */
export class TextBenchmark {
  readonly #encoder: TextEncoder;
  readonly #prompts: readonly string[];

  private constructor(encoder: TextEncoder, prompts: readonly string[]) {
    this.#encoder = encoder;
    this.#prompts = prompts;
  }

  /** @param configs transformers' configurations, such as those of `TEXT_ENCODERS` */
  static async create(engine: Engine, configs: readonly object[], { batch }: TextWorkload): Promise<TextBenchmark> {
    const encoders = configs.map((config, index) => ({ config, seed: textWeightsSeed(index) }));
    const prompts = Array.from({ length: batch }, (_, row) => PROMPTS[row % PROMPTS.length] ?? '');
    return new TextBenchmark(await TextEncoder.random(engine, encoders), prompts);
  }

  /** Runs once; seconds until all of it is computed, tokens included. */
  run(): Promise<number> {
    return scope(() => timed(this.#encoder.engine, async () => void (await this.#encode())));
  }

  /** What a UNet is conditioned with, to be compared before anything is timed: hidden states, then SDXL's pooled text. */
  output(): Promise<Float32Array> {
    return scope(async () => {
      const { encoderHiddenStates, pooled } = await this.#encode();
      const parts = await Promise.all([encoderHiddenStates, pooled].map((tensor) => tensor?.toArray() ?? []));
      return Float32Array.from(parts.flatMap((values) => [...values]));
    });
  }

  /** Tokens of the prompts, for each encoder. */
  tokenIds(): Promise<readonly (readonly (readonly number[])[])[]> {
    return scope(async () => {
      const { tokenIds, tokenIds2 } = await this.#encode();
      return tokenIds2 === undefined ? [tokenIds] : [tokenIds, tokenIds2];
    });
  }

  #encode(): Promise<EncodedPrompts> {
    return this.#encoder.encode(this.#prompts);
  }
}

/** First seed of an encoder's weights. */
export function textWeightsSeed(encoder: number): bigint {
  return WEIGHTS_SEED + BigInt(encoder) * SEEDS_OF_ENCODER;
}
