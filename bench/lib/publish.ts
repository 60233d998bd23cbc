import { execFileSync } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { inspectMachine } from '../../ts/machine/index.ts';
import { writeAtomic } from '../../ts/write-atomic.ts';
import { QUIET } from './busy.ts';
import type { Comparison, Plan } from './compare.ts';

/** Where results are kept. */
export const RESULTS = join(import.meta.dirname, '..', 'results');
const ROOT = join(import.meta.dirname, '..', '..');
/** What benchmarks and their tables change. */
const WRITTEN = ['bench/results', 'bench/README.md', 'README.md'];

/** Prints a result and keeps it as `results/NAME.json`, with what it depends on. */
export async function publish(name: string, result: object): Promise<void> {
  const { cpu, memory } = await inspectMachine(RESULTS);
  const document = {
    benchmark: name,
    commit: commit(),
    date: new Date().toISOString().slice(0, 10),
    machine: {
      processor: cpu.model,
      cores: cpu.cores,
      instructions: cpu.features,
      memoryGiB: Math.round(memory.total / 2 ** 30),
      node: process.versions.node,
    },
    ...result,
  };
  const text = `${JSON.stringify(document, null, 2)}\n`;
  await mkdir(RESULTS, { recursive: true });
  await writeAtomic(join(RESULTS, `${name}.json`), text);
  process.stdout.write(text);
}

/** The commit that is measured, marked where anything differs from it but what benchmarks write themselves. */
function commit(): string {
  const git = (...words: string[]): string => execFileSync('git', words, { encoding: 'utf8', cwd: ROOT }).trim();
  const changes = git('status', '--porcelain', '--', '.', ...WRITTEN.map((path) => `:!${path}`));
  return `${git('rev-parse', '--short', 'HEAD')}${changes === '' ? '' : '-dirty'}`;
}

/** What was compared, and how. */
export interface About {
  readonly workload: object;
  readonly threads: string;
  readonly plan: Plan;
}

/** {@link publish} for a comparison: what each side said of itself stands beside the times. */
export async function publishComparison(name: string, about: About, comparison: Comparison): Promise<void> {
  const { introductions, ...times } = comparison;
  const [own, other] = introductions;
  const flops = own?.['flops'] as number | undefined;
  const { othersBusy = 0 } = comparison;
  if (othersBusy > QUIET) {
    const processors = `${othersBusy.toFixed(1)} processors were at work for other processes`;
    process.stderr.write(`${name}: in a turn ${processors}: measure again on a quiet machine\n`);
  }
  await publish(name, {
    ...about,
    threads: Number(about.threads),
    kernels: own?.['kernels'],
    peer: other?.['versions'],
    ...(flops === undefined ? {} : { flops, flopsPerSecond: flops / times.ours.median }),
    gemmFlopsPerSecond: other?.['gemmFlopsPerSecond'],
    ...times,
  });
}
