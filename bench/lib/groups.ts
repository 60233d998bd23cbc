import type { ProfiledOperation } from '../../ts/native/index.ts';

const BYTES_OF_F32 = 4;
/** Operations that multiply matrices: how fast that can be decides how long they take. */
const PRODUCTS: readonly string[] = ['conv2d', 'linear', 'attention'];
/**
 * Operations that move memory: how often a tensor of the profiled shape (of the first input, or of the output's gradient) is
 * read or written, forward and backward, where nothing stays in a cache.
 */
const PASSES: Readonly<Record<string, readonly [number, number]>> = {
  // Statistics, then x again, and y; x and the gradient, then the gradient behind the activation with x again, in place.
  group_norm: [3, 6],
  layer_norm: [2, 3],
  // From value and gate to half as much; from the gradient of that half, value and gate to both gradients.
  geglu: [1.5, 5],
  add: [3, 0],
  add_rows: [2, 1],
};
const MOVES = 'normalisations, GEGLU, sums';
const REST = 'everything else';

/** What a machine can do. */
export interface Limits {
  readonly gemmFlopsPerSecond: number;
  readonly bytesPerSecond: number;
}

/** Some operations of a profile. */
export interface Group {
  readonly name: string;
  readonly seconds: number;
  readonly share: number;
  readonly flops: number;
  /** The time that the machine's limits allow; none where there is no model of it. */
  readonly leastSeconds?: number;
}

function nameOf({ op, backward }: ProfiledOperation): string {
  if (PRODUCTS.includes(op)) return `${op}, ${backward ? 'backward' : 'forward'}`;
  return op in PASSES ? MOVES : REST;
}

function leastSeconds({ op, backward, shape, calls, flops }: ProfiledOperation, limits: Limits): number {
  if (PRODUCTS.includes(op)) return flops / limits.gemmFlopsPerSecond;
  const passes = PASSES[op]?.[backward ? 1 : 0] ?? 0;
  const numbers = shape.reduce((product, side) => product * side, 1);
  return (calls * passes * numbers * BYTES_OF_F32) / limits.bytesPerSecond;
}

/** Products of matrices by operation and direction, what moves memory, and the rest; slowest first. */
export function groups(profile: readonly ProfiledOperation[], limits: Limits): Group[] {
  const total = profile.reduce((sum, { seconds }) => sum + seconds, 0);
  const found = [...new Set(profile.map(nameOf))].map((name) => {
    const operations = profile.filter((operation) => nameOf(operation) === name);
    const sum = (of: (operation: ProfiledOperation) => number): number => operations.reduce((s, o) => s + of(o), 0);
    const seconds = sum((o) => o.seconds);
    const least = name === REST ? {} : { leastSeconds: sum((o) => leastSeconds(o, limits)) };
    return { name, seconds, share: seconds / total, flops: sum((o) => o.flops), ...least };
  });
  return found.sort((a, b) => b.seconds - a.seconds);
}

/** The groups as a table. */
export function groupTable(found: readonly Group[]): string {
  const percent = (share: number): string => `${Math.round(100 * share)} %`;
  const line = ({ name, seconds, share, leastSeconds }: Group): string => {
    const least = leastSeconds === undefined ? '' : `${leastSeconds.toFixed(2)} s`;
    const reached = leastSeconds === undefined ? '' : percent(leastSeconds / seconds);
    return `| ${[name, `${seconds.toFixed(2)} s`, percent(share), least, reached].join(' | ')} |`;
  };
  const head = ['| operations | time | share | limit | reached |', '|---|---|---|---|---|'];
  return [...head, ...found.map(line)].join('\n');
}
