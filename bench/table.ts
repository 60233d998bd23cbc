/** Writes the ratios under `results/` into README.md, between its two marks. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeAtomic } from '../ts/write-atomic.ts';
import { RESULTS } from './lib/publish.ts';
import { type Recorded, table } from './lib/table.ts';

const README = join(import.meta.dirname, 'README.md');
const BEGIN = '<!-- ratios: written by table.ts -->';
const END = '<!-- end of ratios -->';

const files = (await readdir(RESULTS)).filter((name) => name.startsWith('unet-') && name.endsWith('.json')).sort();
const results: Recorded[] = [];
for (const file of files) results.push(JSON.parse(await readFile(join(RESULTS, file), 'utf8')));
const [before, rest] = (await readFile(README, 'utf8')).split(BEGIN);
const after = rest?.split(END)[1];
if (before === undefined || after === undefined) throw new Error(`${README} lacks the marks ${BEGIN} and ${END}`);
await writeAtomic(README, `${before}${BEGIN}\n${table(results)}\n${END}${after}`);
