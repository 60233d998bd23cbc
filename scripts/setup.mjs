// Everything that potstill needs on a fresh clone with Node and Rust: packages, tools, the native addon, the WASM module,
// TypeScript. Uses nothing but Node itself. What is done already is not done again.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { withLock } from './lib/lock.mjs';
import { STAMPS } from './lib/paths.mjs';
import { checkRequirements, RequirementError } from './lib/requirements.mjs';
import { CommandError } from './lib/shell.mjs';
import { STEPS } from './lib/steps.mjs';
import { clock, Ticker } from './lib/ticker.mjs';

/** Names the process of the set-up that is running. */
const LOCK = join(STAMPS, 'running');

/** Does what is left to do; says nothing when nothing is. */
export async function setUp() {
  if (STEPS.every((step) => step.isDone())) return;
  checkRequirements();
  const waiting = () =>
    process.stderr.write(
      `another set-up is running in this folder: waiting for it (if there is none, remove ${LOCK})\n`,
    );
  await withLock(LOCK, waiting, async () => {
    // What one step writes is the input of a later one (the addon's types, the WASM module): a second pass finds them.
    for (let pass = 0; pass < 2; pass += 1) await runPending(STEPS.filter((step) => !step.isDone()));
  });
}

async function runPending(steps) {
  if (steps.length === 0) return;
  process.stderr.write(`setting up: ${steps.map(({ label }) => label).join(', ')}\n`);
  const ticker = new Ticker(steps);
  for (const [index, step] of steps.entries()) await ticker.run(index, (show) => step.run(show));
  process.stderr.write(`set up in ${clock(ticker.elapsed)}\n`);
}

/** Prints a failure as set-up and tests do, and gives its exit code. */
export function reportFailure(error) {
  if (!(error instanceof RequirementError || error instanceof CommandError)) throw error;
  process.stderr.write(`error: ${error.message}\n`);
  return error.exitCode ?? 1;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  process.exitCode = await setUp().then(() => 0, reportFailure);
}
