import type { Comparison } from './compare.ts';

/** A comparison of UNets as `results/` keeps it. */
export interface Recorded extends Omit<Comparison, 'introductions'> {
  readonly machine: { readonly processor: string; readonly cores: number };
  readonly workload: { readonly arch: string; readonly mode: string; readonly size: number; readonly batch: number };
  readonly threads: number;
  readonly kernels: string;
  readonly flopsPerSecond: number;
  readonly gemmFlopsPerSecond?: number;
}

const HEAD = [
  '| UNet, f32 | machine | potstill | PyTorch | ratio (95 %) | peak memory | of the GEMM peak |',
  '|---|---|---|---|---|---|---|',
];

/** One line for each comparison. */
export function table(results: readonly Recorded[]): string {
  return [...HEAD, ...results.map(line)].join('\n');
}

function line(result: Recorded): string {
  const { workload, machine, ours, theirs, ratio, interval } = result;
  const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;
  const cells = [
    `${workload.arch}, ${workload.mode}, ${workload.size}², batch ${workload.batch}`,
    `${machine.processor}, ${result.threads} threads, ${result.kernels}`,
    `${ours.median.toFixed(2)} s`,
    theirs === undefined ? '' : `${theirs.median.toFixed(2)} s`,
    ratio === undefined || interval === undefined
      ? ''
      : `**${ratio.toFixed(2)}** (${interval.map((end) => end.toFixed(2)).join('–')})`,
    [ours, theirs].flatMap((side) => (side === undefined ? [] : [gigabytes(side.peakBytes)])).join(' : '),
    result.gemmFlopsPerSecond === undefined
      ? ''
      : `${Math.round((100 * result.flopsPerSecond) / result.gemmFlopsPerSecond)} %`,
  ];
  return `| ${cells.join(' | ')} |`;
}
