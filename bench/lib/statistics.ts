/** Middle and spread of a sample. */
export interface Summary {
  readonly median: number;
  /** Distance between the first and the third quartile. */
  readonly spread: number;
}

/** Median and interquartile range, with linear interpolation between ranks. */
export function summarise(values: readonly number[]): Summary {
  const sorted = [...values].sort((a, b) => a - b);
  const quantile = (share: number): number => {
    const rank = share * (sorted.length - 1);
    const [below, above] = [sorted[Math.floor(rank)], sorted[Math.ceil(rank)]];
    if (below === undefined || above === undefined) throw new RangeError('no values to summarise');
    return below + (above - below) * (rank - Math.floor(rank));
  };
  return { median: quantile(0.5), spread: quantile(0.75) - quantile(0.25) };
}
