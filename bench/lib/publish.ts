import { execFileSync } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';

/** Prints a result and keeps it under `results/`, with what it depends on. */
export async function publish(name: string, result: object): Promise<void> {
  const document = {
    benchmark: name,
    commit: execFileSync('git', ['describe', '--always', '--dirty'], { encoding: 'utf8' }).trim(),
    processor: cpus()[0]?.model.trim(),
    cores: availableParallelism(),
    node: process.versions.node,
    ...result,
  };
  const text = `${JSON.stringify(document, null, 2)}\n`;
  const folder = join(import.meta.dirname, '..', 'results');
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, `${name}.json`), text);
  process.stdout.write(text);
}
