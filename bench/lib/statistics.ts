/** Middle and spread of a sample. */
export interface Summary {
  readonly median: number;
  /** Distance between the first and the third quartile. */
  readonly spread: number;
}

/** Median and interquartile range, with linear interpolation between ranks. */
export function summarise(values: readonly number[]): Summary {
  const sorted = [...values].sort((a, b) => a - b);
  return { median: quantile(sorted, 0.5), spread: quantile(sorted, 0.75) - quantile(sorted, 0.25) };
}

function quantile(sorted: readonly number[], share: number): number {
  const rank = share * (sorted.length - 1);
  const [below, above] = [sorted[Math.floor(rank)], sorted[Math.ceil(rank)]];
  if (below === undefined || above === undefined) throw new RangeError('no values to summarise');
  return below + (above - below) * (rank - Math.floor(rank));
}

/** How two samples compare. */
export interface Ratio {
  /** Median of the first by median of the second. */
  readonly ratio: number;
  /** Within this it lies with 95 % confidence. */
  readonly interval: readonly [low: number, high: number];
}

/** Samples drawn for an interval. */
const RESAMPLES = 4000;
/** Shares of the resampled ratios below the interval and above it. */
const TAIL = 0.025;
/** 97.5 % quantile of the normal distribution. */
const NORMAL = 1.959_964;
/** 97.5 % quantiles of Student's t with 1, 2, … degrees of freedom; beyond, t = z + (z³ + z)/4ν is right to 0.1 %. */
const STUDENT = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];

/**
 * The ratio of two sides that took turns, each in a process of its own for every turn.
 *
 * Iterations of one process share its luck (where its memory lies, what else the machine did just then), so they are not
 * independent: turns are drawn with replacement first, both sides' of a turn together, then iterations within each turn
 * and side. Of few turns a bootstrap sees too little variation, by √((n − 1)/n), and knows its width too well: as with
 * Student's t, the interval is widened about the ratio by √(n/(n − 1)) · t(n − 1)/z, on a logarithmic scale.
 *
 * The generator always starts alike: the same values give the same interval.
 *
 * @param ours seconds of the iterations, turn by turn; at least two turns
 * @param theirs the same turns of the other side
 * @param resamples how many samples to draw
 */
export function compareTimes(
  ours: readonly (readonly number[])[],
  theirs: readonly (readonly number[])[],
  resamples = RESAMPLES,
): Ratio {
  const turns = ours.length;
  if (turns !== theirs.length || turns < 2) throw new RangeError('an interval needs two turns of both sides or more');
  const random = generator();
  const draw = <T>(from: readonly T[]): T[] => from.map(() => from[Math.floor(random() * from.length)] as T);
  const pairs = ours.map((values, turn) => ({ own: values, other: theirs[turn] ?? [] }));
  const median = (values: readonly number[]): number => summarise(values).median;
  const ratio = median(ours.flat()) / median(theirs.flat());
  const logs = Array.from({ length: resamples }, () => {
    const drawn = draw(pairs);
    const own = drawn.flatMap((pair) => draw(pair.own));
    const other = drawn.flatMap((pair) => draw(pair.other));
    return Math.log(median(own) / median(other) / ratio);
  }).sort((a, b) => a - b);
  const wider = Math.sqrt(turns / (turns - 1)) * (student(turns - 1) / NORMAL);
  // The ratio itself is always within.
  const low = Math.min(0, quantile(logs, TAIL)) * wider;
  const high = Math.max(0, quantile(logs, 1 - TAIL)) * wider;
  return { ratio, interval: [ratio * Math.exp(low), ratio * Math.exp(high)] };
}

/** 97.5 % quantile of Student's t. */
function student(degrees: number): number {
  return STUDENT[degrees - 1] ?? NORMAL + (NORMAL ** 3 + NORMAL) / (4 * degrees);
}

/** Numbers in [0, 1): Marsaglia's 32-bit xorshift from a fixed state. */
function generator(): () => number {
  let state = 2_463_534_242;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 2 ** 32;
  };
}
