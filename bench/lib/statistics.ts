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
  /** Within this it lies with 95 % confidence (percentile bootstrap of pairs). */
  readonly interval: readonly [low: number, high: number];
}

/** Samples drawn for an interval. */
const RESAMPLES = 4000;

/**
 * The ratio of two samples whose values were taken in turns, so that those at one place met the same machine.
 *
 * Pairs are drawn with replacement, by a generator that always starts alike: the same values give the same interval.
 */
export function compareTimes(ours: readonly number[], theirs: readonly number[]): Ratio {
  if (ours.length !== theirs.length) throw new RangeError('values must come in pairs');
  const median = (values: readonly number[]): number => summarise(values).median;
  const random = generator();
  const ratios = Array.from({ length: RESAMPLES }, () => {
    const places = ours.map(() => Math.floor(random() * ours.length));
    const drawn = (values: readonly number[]): number => median(places.map((place) => values[place] ?? Number.NaN));
    return drawn(ours) / drawn(theirs);
  }).sort((a, b) => a - b);
  return { ratio: median(ours) / median(theirs), interval: [quantile(ratios, 0.025), quantile(ratios, 0.975)] };
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
