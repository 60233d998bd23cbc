import { open, readFile, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { gunzipSync } from 'node:zlib';

const KEYS = join(import.meta.dirname, '..', '..', 'test', 'fixtures', 'keymaps', 'single_files.tsv.gz');

/** Components of a single file, as the key map calls them, and the prefixes of their keys where it leaves them out. */
const COMPONENTS: Readonly<Record<string, readonly (readonly [component: string, prefix: string])[]>> = {
  sd15: [
    ['unet_sd15', ''],
    ['vae', ''],
    ['clip_l', 'cond_stage_model.transformer.'],
  ],
  sdxl: [
    ['unet_sdxl', ''],
    ['vae', ''],
    ['clip_l', 'conditioner.embedders.0.transformer.'],
    ['clip_g', 'conditioner.embedders.1.model.'],
  ],
};

/** Bytes that are written at once. */
const CHUNK = 2 ** 24;
/** f16 numbers whose bytes are all there is in the file: finite, and small as weights are. */
const PATTERN = Uint16Array.from({ length: CHUNK / 2 }, (_, at) => 0x2000 + ((at * 40503) % 0x0800));

/** A checkpoint that was made up. */
export interface Synthetic {
  readonly bytes: number;
  readonly tensors: number;
  readonly parameters: number;
}

/**
 * Writes a single f16 file with the keys and shapes of the published ones and made-up weights.
 *
 * @throws Error when the disk has too little room
 */
export async function writeSynthetic(path: string, kind: 'sd15' | 'sdxl'): Promise<Synthetic> {
  const header: Record<string, object> = {};
  let offset = 0;
  const lines = gunzipSync(await readFile(KEYS))
    .toString('utf8')
    .trim()
    .split('\n');
  for (const [component, prefix] of COMPONENTS[kind] ?? []) {
    for (const line of lines) {
      const [of, , key = '', sizes = ''] = line.split('\t');
      if (of !== component) continue;
      const shape = sizes === '' ? [] : sizes.split('x').map(Number);
      const end = offset + 2 * shape.reduce((product, size) => product * size, 1);
      header[`${prefix}${key}`] = { dtype: 'F16', shape, data_offsets: [offset, end] };
      offset = end;
    }
  }
  const { bavail, bsize } = await statfs(dirname(path));
  if (bavail * bsize < 1.2 * offset) throw new Error(`${dirname(path)} has too little room for ${offset} bytes`);
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const file = await open(path, 'wx');
  try {
    await file.writev([length, json]);
    const pattern = Buffer.from(PATTERN.buffer);
    for (let rest = offset; rest > 0; rest -= CHUNK) await file.write(pattern, 0, Math.min(rest, CHUNK));
    await file.sync();
  } finally {
    await file.close();
  }
  return { bytes: length.length + json.length + offset, tensors: Object.keys(header).length, parameters: offset / 2 };
}
