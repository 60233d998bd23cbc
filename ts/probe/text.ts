import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { inputError, toPotstillError } from '../errors.ts';
import { type Engine, Tensor, TextEncoder } from '../native/index.ts';
import type { PromptSyntax } from '../sampling/index.ts';

const prompts = z.array(z.string()).min(1);

/** A JSON file that holds an array of prompts. */
export async function readPrompts(file: string): Promise<readonly string[]> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (thrown) {
    throw toPotstillError(thrown);
  }
  try {
    return prompts.parse(JSON.parse(text));
  } catch (cause) {
    throw inputError('ERR_PROBE_INPUT', 'is no JSON array of one or more strings', {
      where: file,
      remedy: 'Write it like ["a red apple", ""].',
      cause,
    });
  }
}

/** How prompts are read. */
export interface ProbeTextOptions {
  readonly syntax: PromptSyntax;
  readonly embeddings?: string | undefined;
  readonly clipSkip: number;
}

/**
 * Token ids and encodings of prompts by a model's text encoders, named as in diffusers. Weighted prompts differ in length,
 * so only one of them is taken; its token ids have a row for each of its sequences.
 */
export async function probeText(
  engine: Engine,
  folder: string,
  prompts: readonly string[],
  { syntax, embeddings, clipSkip }: ProbeTextOptions,
): Promise<Readonly<Record<string, Tensor>>> {
  const [first = '', ...others] = prompts;
  if (syntax === 'weighted' && others.length > 0) {
    throw inputError('ERR_PROBE_INPUT', `${prompts.length} prompts are given, and weighted ones differ in length`, {
      where: '--prompts',
      remedy: 'Probe one weighted prompt at a time.',
    });
  }
  const encoder = await TextEncoder.open(engine, folder);
  const encoded =
    syntax === 'plain' ? encoder.encode(prompts, clipSkip) : encoder.encodeWeighted(first, { clipSkip, embeddings });
  const { encoderHiddenStates, pooled, tokenIds, tokenIds2 } = await encoded;
  const rows = (ids: readonly (readonly number[])[]): Tensor =>
    Tensor.fromArray(engine, ids.flat(), [ids.length, ids[0]?.length ?? 0]);
  return {
    token_ids: rows(tokenIds),
    ...(tokenIds2 === undefined ? {} : { token_ids_2: rows(tokenIds2) }),
    encoder_hidden_states: encoderHiddenStates,
    ...(pooled === undefined ? {} : { pooled }),
  };
}
