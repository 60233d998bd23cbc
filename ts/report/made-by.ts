import { cpus, totalmem } from 'node:os';
import { packageVersion } from '../version.ts';

/** One line that says which potstill made something and on what machine. */
export function madeBy(): string {
  const processors = cpus();
  const model = processors[0]?.model.trim() ?? 'unknown processor';
  const memory = Math.round(totalmem() / 2 ** 30);
  return `potstill ${packageVersion()} on ${processors.length} × ${model}, ${memory} GiB, Node ${process.versions.node}`;
}
