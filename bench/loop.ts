/** A training step of the demo's model, and the loop around it: `tsx bench/loop.ts`. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import type { StepMeasurement } from '../ts/bench/index.ts';
import { options } from './lib/options.ts';
import { publish } from './lib/publish.ts';
import { summarise } from './lib/statistics.ts';

const MAIN = join(import.meta.dirname, '..', 'dist', 'cli', 'main.js');

const { turns, iterations } = options({ turns: '3', iterations: '60' });

const results: StepMeasurement[] = Array.from({ length: Number(turns) }, () => {
  const words = [MAIN, 'bench', 'step', '--iterations', iterations, '--json'];
  return JSON.parse(execFileSync(process.execPath, words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }));
});
const times = (name: keyof StepMeasurement) => {
  const seconds = results.map((result) => result[name].seconds);
  return {
    ...summarise(seconds.flat()),
    seconds,
    peakBytes: Math.max(...results.map((result) => result[name].peakBytes)),
  };
};
const [first] = results;
await publish('loop', {
  command: 'potstill bench step',
  threads: first?.step.threads,
  kernels: first?.step.kernels,
  flops: first?.step.flops,
  loop: times('loop'),
  step: times('step'),
  parts: Object.fromEntries(
    Object.keys(first?.step.parts ?? {}).map((name) => [
      name,
      summarise(results.map(({ step }) => step.parts[name as keyof StepMeasurement['step']['parts']])).median,
    ]),
  ),
});
