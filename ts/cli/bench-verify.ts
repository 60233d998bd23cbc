import { type Command, Option } from 'commander';
import type { VerifyMeasurement } from '../bench/index.ts';
import type { VerifyBackend } from '../cache/index.ts';
import { time } from './bench-output.ts';
import type { Context } from './command.ts';
import { formatBytes } from './format.ts';
import { parseCount } from './parse.ts';

interface VerifyOptions {
  readonly iterations: number;
  readonly backend: VerifyBackend;
}

/** `potstill bench verify PATH` */
export function configureVerify(command: Command, context: Context): void {
  command
    .argument('<path>', "a cache's folder")
    .description('Times the verification of a cache: structure and determinism. Its files are in the page cache then.')
    .option('--iterations <n>', 'how often, after one that does not count', parseCount, 5)
    .addOption(new Option('--backend <name>', 'what verifies').choices(['auto', 'native', 'wasm']).default('auto'))
    .action(async (path: string, { iterations, backend }: VerifyOptions) => {
      const { measureVerification } = await import('../bench/index.ts');
      const measured = await measureVerification(path, { iterations, backend, signal: context.signal });
      context.result(measured, () => format(path, measured));
    });
}

function format(path: string, { seconds, bytes, backend, verdict, ...measured }: VerifyMeasurement): string {
  const sorted = [...seconds].sort((a, b) => a - b);
  const [fastest = 0, slowest = 0] = [sorted[0], sorted.at(-1)];
  const middle = sorted[Math.floor((sorted.length - 1) / 2)] ?? 0;
  const facts = [
    `${time(middle)} (${time(fastest)} to ${time(slowest)} of ${sorted.length})`,
    `${formatBytes(bytes)}, ${formatBytes(bytes / middle)}/s`,
    `at most ${formatBytes(measured.peakBytes)}`,
    ...(verdict === 'ok' ? [] : ['the cache is DAMAGED, and findings take time']),
  ];
  return `${path}, ${backend}: ${facts.join('; ')}`;
}
