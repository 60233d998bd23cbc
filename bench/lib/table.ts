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

/** The index of a cache as `results/cache-index.json` keeps it. */
export interface RecordedIndex {
  readonly entries: number;
  readonly mostSeconds: number;
  readonly mostBytes: number;
  readonly open: Summary & Pick<Times, 'peakBytes'>;
  readonly stats: Summary & Pick<Times, 'peakBytes'>;
}

/** What stands beside limits that are no other program's. */
export interface Limited {
  readonly start?: RecordedStart | undefined;
  readonly loop?: RecordedLoop | undefined;
  readonly index?: RecordedIndex | undefined;
  /** Verification: by WASM against the addon, without and with noise that is made anew; from the disk against reading. */
  readonly wasm?: Recorded | undefined;
  readonly wasmNoise?: Recorded | undefined;
  readonly disk?: Recorded | undefined;
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
const LIMITS = { help: 2.5, check: 5, loopSeconds: 1e-3, wasm: 2, disk: 1.25 } as const;

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

/** Start-up, training loop, verification and index against their limits. */
export function limits(measured: Limited): string {
  const lines = [
    ...startLines(measured.start),
    ...loopLines(measured.loop),
    ...verificationLines(measured),
    ...indexLines(measured.index),
  ];
  if (lines.length === 0) return 'Start-up, training loop, verification and index: not measured.';
  return [...LIMIT_HEAD, ...lines.map(cells)].join('\n');
}

function startLines(start: RecordedStart | undefined): string[][] {
  if (start === undefined) return [];
  const started = (what: string, measured: RecordedStart['help'], limit: number): string[] => [
    what,
    seconds(measured.ours.median),
    `${limit} × node's own start`,
    ratio(measured, limit),
  ];
  return [
    started('`potstill --help`', start.help, LIMITS.help),
    started('`potstill recipe check`', start.check, LIMITS.check),
  ];
}

function loopLines(recorded: RecordedLoop | undefined): string[][] {
  if (recorded === undefined) return [];
  const { loop, step, parts } = recorded;
  return [
    [
      'training loop without a model, a step',
      seconds(loop.median),
      'under 1 ms',
      verdict(loop.median < LIMITS.loopSeconds ? 'kept' : 'missed'),
    ],
    ["training step of the demo's model", seconds(step.median), '', describeParts(parts)],
  ];
}

function verificationLines({ wasm, wasmNoise, disk }: Limited): string[][] {
  const line = (what: string, result: Recorded | undefined, of: string, limit?: number): string[][] => {
    if (result === undefined) return [];
    const times = limit === undefined ? '' : `${limit} × ${of}`;
    return [[what, seconds(result.ours.median), times, `${ratio(result, limit)}${busy(result)}`]];
  };
  return [
    ...line('`cache verify` by WASM, 1 thread, noise not made anew', wasm, "the addon's time", LIMITS.wasm),
    ...line('the same, noise made anew', wasmNoise, "the addon's time"),
    ...line('`cache verify` of files that are on the disk alone', disk, 'the time to read them', LIMITS.disk),
  ];
}

function indexLines(index: RecordedIndex | undefined): string[][] {
  if (index === undefined) return [];
  const { entries, mostSeconds, mostBytes } = index;
  const line = (what: string, { median, peakBytes }: RecordedIndex['open']): string[] => [
    what,
    `${seconds(median)}, ${megabytes(peakBytes)}`,
    `${mostSeconds} s, ${megabytes(mostBytes)}`,
    verdict(median < mostSeconds && peakBytes < mostBytes ? 'kept' : 'missed'),
  ];
  return [
    line(`index of ${entries} predictions, opened`, index.open),
    line(`\`cache stats\` of ${entries} predictions`, index.stats),
  ];
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`;
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

/** Below this, ratios have a digit more. */
const SMALL = 0.2;

function ratio({ ratio, interval }: Partial<Ratio>, limit?: number): string {
  const digits = ratio !== undefined && ratio < SMALL ? 3 : 2;
  const ends = interval === undefined ? '' : ` (${interval.map((end) => end.toFixed(digits)).join('–')})`;
  const kept = limit === undefined || ratio === undefined ? '' : `: ${verdict(ratio <= limit ? 'kept' : 'missed')}`;
  return `**${ratio?.toFixed(digits)}**${ends}${kept}`;
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
