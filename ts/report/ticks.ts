/**
 * Round axis marks that cover [min, max]: multiples of 1, 2 or 5 times a power of ten.
 *
 * @param count roughly how many marks are wanted
 */
export function niceTicks(min: number, max: number, count = 5): number[] {
  if (!(max > min)) return [min];
  const raw = (max - min) / count;
  const magnitude = 10 ** Math.floor(Math.log10(raw));
  const step = ([1, 2, 5, 10].find((factor) => factor * magnitude >= raw) ?? 10) * magnitude;
  const ticks: number[] = [];
  for (let index = Math.ceil(min / step); index * step <= max + step * 1e-9; index++) ticks.push(index * step);
  return ticks;
}

/**
 * Marks for a logarithmic axis over [min, max], both above zero: powers of ten, with their twofold and fivefold where
 * few powers fit; plain round numbers where the range is less than a factor of two.
 */
export function logTicks(min: number, max: number): number[] {
  if (max < 2 * min) return niceTicks(min, max, 3);
  const factors = max / min > 1e3 ? [1] : [1, 2, 5];
  const ticks: number[] = [];
  for (let exponent = Math.floor(Math.log10(min)); 10 ** exponent <= max; exponent++) {
    ticks.push(...factors.map((factor) => factor * 10 ** exponent).filter((tick) => tick >= min && tick <= max));
  }
  return ticks;
}

/** A number with at most three significant decimals and no trailing zeros. */
export function formatTick(value: number): string {
  if (value !== 0 && (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3)) return value.toExponential(0);
  return String(Number(value.toPrecision(3)));
}
