import type { Introduction } from './compare.ts';

/** Numbers as an introduction holds them: a list, base64 of little-endian f32, or by name. */
type Values = readonly number[] | string | Readonly<Record<string, number>>;

/**
 * How much farther than all together a value by name may be. A gradient that is left of large numbers which cancel (that of
 * attention's queries and keys) has fewer right digits than the others; one that is wrong is off by far more than this.
 */
const EACH = 100;
/** Of the median of values by name: what is smaller is compared as if it were of this size, for it is rounding alone. */
const NEAR_ZERO = 1e-3;

/**
 * Compares numbers that both sides computed.
 *
 * @param key where they stand in the introductions
 * @param tolerance root mean square of the differences, over that of the values; of values by name also each by itself, see
 *   {@link EACH}
 * @throws when they differ by more, or are not of the same things
 */
export function agree(ours: Introduction, theirs: Introduction, key: string, tolerance: number): void {
  const [own, other] = [ours, theirs].map((introduction) => introduction[key] as Values | undefined);
  if (own === undefined || other === undefined) throw new Error(`${key}: a side did not compute it`);
  const each = isByName(own) && isByName(other) ? worst(own, other, key) : 0;
  const difference = distance(list(own), list(other), key);
  if (!(difference <= tolerance)) throw new Error(`${key} differs by ${difference}: nothing is timed`);
  if (!(each <= EACH * tolerance)) throw new Error(`${key} differs by up to ${each}: nothing is timed`);
}

/**
 * Compares numbers that both sides computed in few digits, with the same in many: as their roundings differ, the sides
 * differ from one another by more than either does from the truth.
 *
 * @param reference introduction of the other side's program in many digits
 * @param most how much farther from it ours may be than theirs
 * @throws when ours are farther
 */
export function agreeWith(
  reference: Introduction,
  { ours, theirs }: { readonly ours: Introduction; readonly theirs: Introduction },
  key: string,
  most: number,
): void {
  const [own, other] = [ours, theirs].map((side) => distance(valuesOf(side, key), valuesOf(reference, key), key));
  if (own === undefined || other === undefined || !(own <= most * other)) {
    throw new Error(`${key} is ${own} from f32, the other side's ${other}: nothing is timed`);
  }
}

function valuesOf(introduction: Introduction, key: string): ArrayLike<number> {
  const values = introduction[key] as Values | undefined;
  if (values === undefined) throw new Error(`${key}: a side did not compute it`);
  return list(values);
}

/**
 * How far numbers are from a reference.
 *
 * @returns root mean square of the differences, over that of the reference
 */
function distance(values: ArrayLike<number>, reference: ArrayLike<number>, key: string): number {
  if (values.length !== reference.length || values.length === 0) {
    throw new Error(`${key}: the sides computed ${values.length} and ${reference.length} values`);
  }
  let [difference, norm] = [0, 0];
  for (let at = 0; at < values.length; at += 1) {
    const wanted = reference[at] ?? Number.NaN;
    difference += ((values[at] ?? Number.NaN) - wanted) ** 2;
    norm += wanted ** 2;
  }
  return Math.sqrt(difference / norm);
}

/** The numbers of a list, of base64, or by name in the order of the names. */
function list(values: Values): ArrayLike<number> {
  if (isByName(values))
    return Object.keys(values)
      .sort()
      .map((name) => values[name] ?? Number.NaN);
  if (typeof values !== 'string') return values;
  const bytes = Buffer.from(values, 'base64');
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}

function isByName(values: Values): values is Readonly<Record<string, number>> {
  return typeof values === 'object' && !Array.isArray(values);
}

function worst(own: Readonly<Record<string, number>>, other: Readonly<Record<string, number>>, key: string): number {
  const names = Object.keys(other);
  const stranger = [...names, ...Object.keys(own)].find((name) => own[name] === undefined || other[name] === undefined);
  if (stranger !== undefined) throw new Error(`${key}: one side alone has ${stranger}`);
  const sizes = names.map((name) => Math.abs(other[name] ?? 0)).sort((a, b) => a - b);
  const least = NEAR_ZERO * (sizes[Math.floor(sizes.length / 2)] ?? 0);
  return Math.max(
    ...names.map((name) => {
      const [mine, its] = [own[name] ?? 0, other[name] ?? 0];
      return Math.abs(mine - its) / Math.max(Math.abs(its), least);
    }),
  );
}
