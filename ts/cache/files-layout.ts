import type { TextShape } from './plan/types.ts';

/** Bytes of one value, by how safetensors names its type. */
const BYTES = { F16: 2, I32: 4, I64: 8 } as const;

/** A tensor of a file: its type and shape. */
type Field = readonly [dtype: keyof typeof BYTES, shape: readonly number[]];

/**
 * Bytes of one file of the *files* layout, which has a file for every prediction: prediction and noise of a latent, its
 * timestep, seed and resolution, and the whole encoded caption; floats in f16.
 *
 * @param latent shape of the prediction: [channels, height, width]
 * @see {@link https://huggingface.co/docs/safetensors the format}: 8 bytes of length, a JSON header padded to 8, data
 */
export function bytesInFilesLayout(latent: readonly number[], { tokens, width, pooled }: TextShape): number {
  // In the order that safetensors' own writer puts them: the widest types first, then by name.
  const fields: Record<string, Field> = {
    seed: ['I64', [1]],
    timestep: ['I64', [1]],
    resolution: ['I32', [2]],
    encoder_hidden_states: ['F16', [tokens, width]],
    noise: ['F16', latent],
    ...(pooled === undefined ? {} : { pooled_embeds: ['F16', [pooled]] as const }),
    teacher_pred: ['F16', latent],
  };
  let end = 0;
  const header: Record<string, object> = {};
  for (const [name, [dtype, shape]] of Object.entries(fields)) {
    const start = end;
    end += shape.reduce((product, side) => product * side, BYTES[dtype]);
    header[name] = { dtype, shape, data_offsets: [start, end] };
  }
  return 8 + Math.ceil(JSON.stringify(header).length / 8) * 8 + end;
}
