import type { Measurement } from '../bench/index.ts';
import { formatBytes } from './format.ts';

/** Rows of a profile that people are shown; `--json` has all. */
const SHOWN = 25;

/** Seconds with three significant digits. */
export function time(seconds: number): string {
  return seconds < 1 ? `${(seconds * 1000).toPrecision(3)} ms` : `${seconds.toPrecision(3)} s`;
}

/** A measurement as text. */
export function describeMeasurement(name: string, measured: Measurement): string {
  const sorted = [...measured.seconds].sort((a, b) => a - b);
  const [fastest = 0, middle = 0, slowest = 0] = [0, (sorted.length - 1) / 2, sorted.length - 1].map(
    (rank) => sorted[Math.floor(rank)],
  );
  const rate = measured.flops === 0 ? [] : [`${(measured.flops / middle / 1e9).toFixed(0)} GFLOP/s`];
  const facts = [
    `${time(middle)} (${time(fastest)} to ${time(slowest)} of ${sorted.length})`,
    ...rate,
    `${measured.threads} threads, ${measured.kernels}`,
    `at most ${formatBytes(measured.peakBytes)}`,
  ];
  return [`${name}: ${facts.join('; ')}`, ...describeProfile(measured)].join('\n');
}

function describeProfile({ profile }: Measurement): string[] {
  if (profile === undefined) return [];
  const total = profile.reduce((sum, { seconds }) => sum + seconds, 0);
  return profile.slice(0, SHOWN).map(({ op, backward, shape, calls, seconds, flops }) => {
    const share = `${((100 * seconds) / total).toFixed(1)} %`;
    const rate = flops === 0 ? '' : `${(flops / seconds / 1e9).toFixed(0)} GFLOP/s`;
    const what = `${op}${backward ? ' backward' : ''} [${shape.join(', ')}]`;
    return `${share.padStart(7)} ${time(seconds).padStart(8)} ${String(calls).padStart(5)} × ${what.padEnd(48)} ${rate}`;
  });
}
