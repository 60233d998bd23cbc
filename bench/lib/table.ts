import { QUIET } from './busy.ts';
import type { Comparison, Times } from './compare.ts';
import type { Row } from './rows.ts';
import type { Ratio, Summary } from './statistics.ts';

/** The machine of a result. */
interface Machine {
  readonly processor: string;
  readonly cores: number;
}

/** A comparison as `results/` keeps it. */
export interface Recorded extends Omit<Comparison, 'introductions'> {
  readonly commit: string;
  readonly date: string;
  readonly machine: Machine;
  readonly workload: { readonly size?: number; readonly batch?: number };
  readonly threads: number;
  readonly kernels: string;
  readonly flopsPerSecond?: number;
  readonly gemmFlopsPerSecond?: number;
}

/** The start of the command line as `results/startup.json` keeps it. */
export interface RecordedStart {
  readonly node: Summary;
  readonly help: Ratio & { readonly ours: Summary };
  readonly check: Ratio & { readonly ours: Summary };
}

/** The training loop as `results/loop.json` keeps it. */
export interface RecordedLoop {
  readonly loop: Summary;
  readonly step: Summary & Pick<Times, 'peakBytes'>;
  readonly parts: Readonly<Record<string, number>>;
}

/** A line of the table and its result, where there is one. */
export interface Filled {
  readonly row: Row;
  readonly result: Recorded | undefined;
}

const HEAD = [
  '| f32 unless it says otherwise | potstill | PyTorch | ratio (95 %) | gate, goal | peak memory | of the GEMM peak |',
  '|---|---|---|---|---|---|---|',
];
const SHORT_HEAD = ['| | potstill | PyTorch | ratio (95 %) |', '|---|---|---|---|'];
const LIMIT_HEAD = ['| | time | limit | measured |', '|---|---|---|---|'];

/** Limits of the issue: node's own start is 1. */
const LIMITS = { help: 2.5, check: 5, loopSeconds: 1e-3 } as const;

/** One line for each comparison, below the machines that they were made on. */
export function table(rows: readonly Filled[]): string {
  return [...machines(rows), '', ...HEAD, ...rows.map(line)].join('\n');
}

/** The comparisons that users ask for first. */
export function shortTable(rows: readonly Filled[]): string {
  const lines = rows.flatMap(({ row, result }) =>
    row.short === undefined || result === undefined ? [] : [cells([describe(row, result), ...times(result)])],
  );
  return [...SHORT_HEAD, ...lines].join('\n');
}

/** Start-up and training loop against their limits. */
export function limits(start: RecordedStart | undefined, loop: RecordedLoop | undefined): string {
  if (start === undefined && loop === undefined) return 'Start-up and training loop: not measured.';
  const started = (what: string, measured: RecordedStart['help'], limit: number): string =>
    cells([what, seconds(measured.ours.median), `${limit} × node's own start`, ratio(measured, limit)]);
  return [
    ...LIMIT_HEAD,
    ...(start === undefined
      ? []
      : [
          started('`potstill --help`', start.help, LIMITS.help),
          started('`potstill recipe check`', start.check, LIMITS.check),
        ]),
    ...(loop === undefined
      ? []
      : [
          cells([
            'training loop without a model, a step',
            seconds(loop.loop.median),
            'under 1 ms',
            verdict(loop.loop.median < LIMITS.loopSeconds ? 'kept' : 'missed'),
          ]),
          cells(["training step of the demo's model", seconds(loop.step.median), '', describeParts(loop.parts)]),
        ]),
  ].join('\n');
}

/** One line for each machine. */
function machines(rows: readonly Filled[]): string[] {
  const lines = rows.flatMap(({ result }) =>
    result === undefined ? [] : [`${result.machine.processor}, ${result.machine.cores} cores`],
  );
  return [`Machine: ${[...new Set(lines)].join('; ') || 'none yet'}.`];
}

function line({ row, result }: Filled): string {
  const aims = `${row.gate}, ${row.goal}`;
  if (result === undefined) return cells([row.what, 'not measured', '', '', aims, '', '']);
  const { ours, theirs, gemmFlopsPerSecond: peak, flopsPerSecond: rate } = result;
  const sides = theirs === undefined ? [ours] : [ours, theirs];
  return cells([
    describe(row, result),
    ...times(result, busy(result)),
    `${aims}${result.ratio === undefined ? '' : `: ${reached(row, result.ratio)}`}`,
    sides.map(({ peakBytes }) => `${(peakBytes / 1e9).toFixed(1)} GB`).join(' : '),
    peak === undefined || rate === undefined ? '' : `${Math.round((100 * rate) / peak)} %`,
  ]);
}

/** What a time that others shared the machine with has to say. */
function busy({ othersBusy = 0 }: Recorded): string {
  return othersBusy > QUIET ? ` (others used up to ${othersBusy.toFixed(1)} processors)` : '';
}

function describe({ what }: Row, { workload: { size, batch }, threads, kernels }: Recorded): string {
  const facts = [
    ...(size === undefined ? [] : [`${size}²`]),
    ...(batch === undefined || size === undefined ? [] : [`batch ${batch}`]),
    ...(size === undefined ? [] : [`${threads} threads`, kernels]),
  ];
  return [what, ...facts].join(', ');
}

/** Time of potstill, of the other side, and their ratio. */
function times(result: Recorded, note = ''): string[] {
  const { ours, theirs } = result;
  if (theirs === undefined) return [seconds(ours.median), '', note];
  return [seconds(ours.median), seconds(theirs.median), `${result.ratio === undefined ? '' : ratio(result)}${note}`];
}

function ratio({ ratio, interval }: Partial<Ratio>, limit?: number): string {
  const ends = interval === undefined ? '' : ` (${interval.map((end) => end.toFixed(2)).join('–')})`;
  const kept = limit === undefined || ratio === undefined ? '' : `: ${verdict(ratio <= limit ? 'kept' : 'missed')}`;
  return `**${ratio?.toFixed(2)}**${ends}${kept}`;
}

function reached({ gate, goal }: Row, measured: number): string {
  if (measured <= goal) return 'goal';
  return verdict(measured <= gate ? 'gate' : 'missed');
}

function verdict(word: 'gate' | 'kept' | 'missed'): string {
  return word === 'missed' ? '**missed**' : word;
}

function describeParts(parts: Readonly<Record<string, number>>): string {
  return Object.entries(parts)
    .map(([name, value]) => `${name} ${seconds(value)}`)
    .join(', ');
}

function seconds(value: number): string {
  if (value >= 1) return `${value.toFixed(2)} s`;
  return value >= 1e-3 ? `${(value * 1e3).toPrecision(3)} ms` : `${(value * 1e6).toPrecision(3)} µs`;
}

function cells(values: readonly string[]): string {
  return `| ${values.join(' | ')} |`;
}
