/** How far a model went from where it started, and where to. Root mean squares, in parts of the whole way to the goal. */
export interface Closeness {
  /** What is left of the way: 0 is the goal itself, 1 where it started from (or as far). */
  readonly distance: number;
  /** How much of the way it went: the projection of its own way on the whole; 1 is all, above 1 too far. */
  readonly share: number;
  /** How far it went aside: what is left of its own way without that projection. What no share of the goal explains. */
  readonly drift: number;
}

/** Final latents from the same noise, a row a picture. */
export interface Way {
  readonly start: readonly Float32Array[];
  readonly goal: readonly Float32Array[];
  readonly model: readonly Float32Array[];
}

/**
 * Where a model's pictures lie between two others'. distance² = (1 − share)² + drift².
 *
 * @throws RangeError when the goal is where it started, or the pictures differ in number or size
 */
export function closeness({ start, goal, model }: Way): Closeness {
  if (start.length !== goal.length || start.length !== model.length) throw new RangeError('pictures differ in number');
  let whole = 0;
  let along = 0;
  let own = 0;
  for (const [row, from] of start.entries()) {
    const [to, at] = [goal[row], model[row]];
    if (to?.length !== from.length || at?.length !== from.length) throw new RangeError('latents differ in size');
    for (const [index, value] of from.entries()) {
      const wanted = (to[index] ?? Number.NaN) - value;
      const gone = (at[index] ?? Number.NaN) - value;
      whole += wanted * wanted;
      along += wanted * gone;
      own += gone * gone;
    }
  }
  if (whole === 0) throw new RangeError('the goal is where it started: there is no way between them');
  const share = along / whole;
  // Of rounding alone the difference can be below 0.
  const drift = Math.sqrt(Math.max(0, own / whole - share * share));
  return { distance: Math.hypot(1 - share, drift), share, drift };
}
