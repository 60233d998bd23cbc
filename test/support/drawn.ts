import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadEngine, readPicture } from '../../ts/native/index.ts';
import { potstill } from './command-line.ts';

const PROMPT = 'a red picture';

/** A recipe's `sampling` of one small picture at the end of a run: what {@link drawWith} draws too. */
export const SAMPLING = { every: 100, prompts: [PROMPT], sampler: 'ddim', steps: 2, guidance: 3, seeds: [1] };
/** Name of that picture in a run's folder of samples. */
export const SAMPLE_FILE = 'prompt-00-seed-1.png';

const WORDS = Object.entries({ prompt: PROMPT, seed: 1, sampler: 'ddim', steps: 2, guidance: 3 }).flatMap(
  ([name, value]) => [`--${name}`, String(value)],
);

/** One of the 256 levels of a picture in [−1, 1]. */
export const LEVEL = 2 / 255;

/**
 * Draws the picture of {@link SAMPLING} by the command line.
 *
 * @param out folder that gets it
 * @param more options of `potstill sample`
 * @returns the picture's file
 */
export async function drawWith(model: string, out: string, ...more: readonly string[]): Promise<string> {
  const { code, err } = await potstill('sample', '--model', model, ...WORDS, ...more, '--out', out);
  if (code !== 0) throw new Error(err);
  return join(out, '00-a-red-picture-1.png');
}

/** The largest difference of two pictures' values, which are in [−1, 1]. */
export async function pictureDistance(one: string, other: string): Promise<number> {
  const engine = await loadEngine();
  const read = async (file: string): Promise<Float32Array> => (await readPicture(engine, file)).toArray();
  const [values, others] = [await read(one), await read(other)];
  if (values.length !== others.length) throw new RangeError('the pictures differ in size');
  return values.reduce((most, value, i) => Math.max(most, Math.abs(value - (others[i] ?? 0))), 0);
}

/** A picture's file as text, for what it says of itself. */
export const pictureText = (file: string): string => readFileSync(file).toString('latin1');
