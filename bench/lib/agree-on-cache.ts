import type { Introduction } from './compare.ts';

/** A band of a report: predictions, their root mean square, correlation and slope. */
type Band = readonly number[];

/** What a side says of a cache. */
interface Outcome {
  readonly verdict: string;
  readonly entries: number;
  readonly bands: Readonly<Record<string, readonly Band[]>>;
  readonly wrong?: readonly string[];
}

/** Reports have four decimals. */
const TOLERANCE = 1e-4;

/**
 * Compares what two programs found in the same cache: the verdict, how many entries they looked at, and the statistics of the
 * predictions, which only who read every value of predictions and noise can know.
 *
 * @throws when they differ, or the cache is not sound: findings take time
 */
export function agreeOnCache(ours: Introduction, theirs: Introduction): void {
  const [own, other] = [outcomeOf(ours), outcomeOf(theirs)];
  const differ = (what: string): Error => new Error(`${what}: nothing is timed`);
  if (own.verdict !== 'ok' || other.verdict !== 'ok') {
    throw differ(
      `the cache is ${own.verdict} for one side, ${other.verdict} for the other (${other.wrong?.join('; ')})`,
    );
  }
  if (own.entries !== other.entries) throw differ(`${own.entries} entries on one side, ${other.entries} on the other`);
  const [bands, theirBands] = [listed(own), listed(other)];
  const isNear = ([name, value]: readonly [string, number], index: number): boolean => {
    const [otherName, otherValue = Number.NaN] = theirBands[index] ?? [];
    return name === otherName && Math.abs(value - otherValue) <= TOLERANCE;
  };
  if (bands.length === 0 || bands.length !== theirBands.length || !bands.every(isNear)) {
    throw differ('the statistics of the predictions differ');
  }
}

/** Compares reports. */
export function agreeToTheByte(ours: Introduction, theirs: Introduction): void {
  if (typeof ours['json'] !== 'string' || ours['json'] !== theirs['json']) {
    throw new Error('the reports differ: nothing is timed');
  }
}

function outcomeOf(introduction: Introduction): Outcome {
  return introduction['outcome'] as Outcome;
}

/** The numbers of all bands with their places, in the order of the components' names. */
function listed({ bands }: Outcome): (readonly [string, number])[] {
  const names = Object.keys(bands).sort();
  return names.flatMap((name) => {
    const values = (bands[name] ?? []).flatMap((band, index) => band.map((value) => [index, value] as const));
    return values.map(([index, value]) => [`${name} ${index}`, value] as const);
  });
}
