/** The built command line against node's own start: `tsx bench/startup.ts`. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { options } from './lib/options.ts';
import { publish } from './lib/publish.ts';
import { compareTimes, summarise } from './lib/statistics.ts';

const ROOT = join(import.meta.dirname, '..');
const MAIN = join(ROOT, 'dist', 'cli', 'main.js');
const RECIPE = join(ROOT, 'configs', 'examples', 'multi-teacher.json');
/** What is started, by turns. */
const STARTED = {
  node: ['-e', '0'],
  help: [MAIN, '--help'],
  check: [MAIN, 'recipe', 'check', RECIPE],
} as const;

const { turns } = options({ turns: '40' });

/** Seconds from starting a process to its end. */
function run(words: readonly string[]): number {
  const begun = performance.now();
  const { status, stderr } = spawnSync(process.execPath, words, { stdio: ['ignore', 'ignore', 'pipe'] });
  if (status !== 0) throw new Error(`${words.join(' ')} ended with ${status}: ${stderr}`);
  return (performance.now() - begun) / 1000;
}

const names = Object.keys(STARTED) as (keyof typeof STARTED)[];
const seconds: Record<keyof typeof STARTED, number[][]> = { node: [], help: [], check: [] };
// The first of each finds its files on the disk, the others in memory.
for (const name of names) run(STARTED[name]);
for (let turn = 0; turn < Number(turns); turn += 1) for (const name of names) seconds[name].push([run(STARTED[name])]);

const times = (name: keyof typeof STARTED) => ({ ...summarise(seconds[name].flat()), seconds: seconds[name].flat() });
const against = (name: keyof typeof STARTED) => ({ ours: times(name), ...compareTimes(seconds[name], seconds.node) });
await publish('startup', { node: times('node'), help: against('help'), check: against('check') });
