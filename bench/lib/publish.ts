import { execFileSync } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { inspectMachine } from '../../ts/machine/index.ts';
import { writeAtomic } from '../../ts/write-atomic.ts';

/** Where results are kept. */
export const RESULTS = join(import.meta.dirname, '..', 'results');

/** Prints a result and keeps it as `results/NAME.json`, with what it depends on. */
export async function publish(name: string, result: object): Promise<void> {
  const { cpu, memory } = await inspectMachine(RESULTS);
  const document = {
    benchmark: name,
    commit: execFileSync('git', ['describe', '--always', '--dirty'], { encoding: 'utf8' }).trim(),
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
