import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { inputError, toPotstillError } from '../errors.ts';
import { type Engine, Tensor, TextEncoder } from '../native/index.ts';

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

/** Token ids and encodings of prompts by a model's text encoders, named as in diffusers. */
export async function probeText(
  engine: Engine,
  folder: string,
  prompts: readonly string[],
): Promise<Readonly<Record<string, Tensor>>> {
  const encoder = await TextEncoder.open(engine, folder);
  const { encoderHiddenStates, pooled, tokenIds, tokenIds2 } = await encoder.encode(prompts);
  const rows = (ids: readonly (readonly number[])[]): Tensor =>
    Tensor.fromArray(engine, ids.flat(), [ids.length, ids[0]?.length ?? 0]);
  return {
    token_ids: rows(tokenIds),
    ...(tokenIds2 === undefined ? {} : { token_ids_2: rows(tokenIds2) }),
    encoder_hidden_states: encoderHiddenStates,
    ...(pooled === undefined ? {} : { pooled }),
  };
}
