import type { Introduction } from './compare.ts';

/**
 * Compares a list of numbers that both sides computed.
 *
 * @param key where it stands in the introductions
 * @param tolerance root mean square of the differences, over that of the values
 * @throws when they differ by more
 */
export function agree(ours: Introduction, theirs: Introduction, key: string, tolerance: number): void {
  const [own, other] = [ours, theirs].map((introduction) => introduction[key] as readonly number[]);
  if (own === undefined || other === undefined || own.length !== other.length || own.length === 0) {
    throw new Error(`${key}: the sides computed ${own?.length} and ${other?.length} values`);
  }
  const norm = (values: readonly number[]): number => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
  const difference = norm(own.map((value, at) => value - (other[at] ?? Number.NaN))) / norm(other);
  if (!(difference <= tolerance)) throw new Error(`${key} differs by ${difference}: nothing is timed`);
}
