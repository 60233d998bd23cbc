/** Writes the ratios under `results/` into README.md, here and at the repository's root, between their marks. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeAtomic } from '../ts/write-atomic.ts';
import { RESULTS } from './lib/publish.ts';
import { ROWS } from './lib/rows.ts';
import {
  limits,
  type Recorded,
  type RecordedIndex,
  type RecordedLoop,
  type RecordedStart,
  shortTable,
  table,
} from './lib/table.ts';

const BEGIN = '<!-- ratios: written by bench/table.ts -->';
const END = '<!-- end of ratios -->';

/** A result; undefined where there is none. */
async function recorded<T>(name: string): Promise<T | undefined> {
  try {
    return JSON.parse(await readFile(join(RESULTS, `${name}.json`), 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Replaces what stands between the marks. */
async function write(file: string, text: string): Promise<void> {
  const [before, rest] = (await readFile(file, 'utf8')).split(BEGIN);
  const after = rest?.split(END)[1];
  if (before === undefined || after === undefined) throw new Error(`${file} lacks the marks ${BEGIN} and ${END}`);
  await writeAtomic(file, `${before}${BEGIN}\n${text}\n${END}${after}`);
}

const rows = await Promise.all(ROWS.map(async (row) => ({ row, result: await recorded<Recorded>(row.name) })));
const limited = limits({
  start: await recorded<RecordedStart>('startup'),
  loop: await recorded<RecordedLoop>('loop'),
  index: await recorded<RecordedIndex>('cache-index'),
  wasm: await recorded<Recorded>('verify-wasm'),
  wasmNoise: await recorded<Recorded>('verify-wasm-noise'),
  disk: await recorded<Recorded>('verify-disk'),
});
await write(join(import.meta.dirname, 'README.md'), `${table(rows)}\n\n${limited}`);
await write(join(import.meta.dirname, '..', 'README.md'), shortTable(rows));
