import { type Summary, summarise } from './statistics.ts';

/** One side: runs an iteration and returns its seconds. */
export type Side = () => Promise<number>;

/** Times of both sides, and how they compare. */
export interface Comparison {
  readonly ours: Summary;
  readonly theirs?: Summary;
  /** Their median by ours: above 1, potstill is faster. */
  readonly ratio?: number;
}

/**
 * Times the sides in turns, so that whatever else the machine does meets both alike.
 *
 * @param warmUp iterations of each side that are not counted
 */
export async function compare(
  ours: Side,
  theirs: Side | undefined,
  iterations: number,
  warmUp: number,
): Promise<Comparison> {
  const times: { ours: number[]; theirs: number[] } = { ours: [], theirs: [] };
  for (let iteration = -warmUp; iteration < iterations; iteration += 1) {
    const own = await ours();
    const other = await theirs?.();
    if (iteration < 0) continue;
    times.ours.push(own);
    if (other !== undefined) times.theirs.push(other);
  }
  const own = summarise(times.ours);
  if (theirs === undefined) return { ours: own };
  const other = summarise(times.theirs);
  return { ours: own, theirs: other, ratio: other.median / own.median };
}
