/** `npm run bench -- --python PATH`: every comparison, then the tables in the two README.md. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { options } from './lib/options.ts';
import { LIMITS, ROWS } from './lib/rows.ts';

const { python, only, turns } = options({ only: '', turns: '' });
const measured = ROWS.flatMap(({ name, run }) =>
  run === undefined ? [] : [{ name, words: [...run, ...withPython()] }],
);
const limits = LIMITS.map(([file = '', ...rest]) => ({
  name: [file.replace('.ts', ''), ...rest].join(' '),
  words: [file, ...rest, ...withPython()],
}));
const runs = [...limits, ...measured].filter(({ name }) => name.includes(only));
if (runs.length === 0) throw new Error(`--only ${only}: no comparison has that in its name`);

const failed: string[] = [];
const begun = performance.now();
for (const [index, { name, words }] of runs.entries()) {
  const minutes = ((performance.now() - begun) / 60_000).toFixed(0);
  process.stderr.write(`\n[${index + 1} of ${runs.length}, ${minutes} min] ${name}\n`);
  // What a run prints stands in its file under results/ as well.
  if (!start([...words, ...withTurns()], 'ignore')) failed.push(name);
  // After each, so that a run that is cut short has its tables too.
  if (!start(['table.ts'], 'inherit')) failed.push(`table after ${name}`);
}
process.stderr.write(failed.length === 0 ? '\nall measured\n' : `\nfailed: ${failed.join(', ')}; the others stand\n`);
if (failed.length > 0) process.exitCode = 1;

function withTurns(): string[] {
  return turns === '' ? [] : ['--turns', turns];
}

function withPython(): string[] {
  return python === undefined ? [] : ['--python', python];
}

function start([file = '', ...words]: readonly string[], stdout: 'ignore' | 'inherit'): boolean {
  const command = ['--import', 'tsx', join(import.meta.dirname, file), ...words];
  const { status } = spawnSync(process.execPath, command, { stdio: ['ignore', stdout, 'inherit'] });
  return status === 0;
}
