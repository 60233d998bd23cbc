/** A half-open range of records. */
export interface Range {
  readonly from: number;
  readonly to: number;
}

/**
 * Cuts records into consecutive runs of at most `limit` that agree in `keyOf`: what one forward can take, for a batch
 * must be of one size. Cuts depend on the range only, so a shard built again has the same bytes.
 */
export function* runsOf({ from, to }: Range, limit: number, keyOf: (record: number) => string): Generator<Range> {
  let start = from;
  for (let record = from + 1; record <= to; record += 1) {
    if (record === to || record - start === limit || keyOf(record) !== keyOf(start)) {
      yield { from: start, to: record };
      start = record;
    }
  }
}
