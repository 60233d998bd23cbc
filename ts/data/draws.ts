import { keyOf, philox } from './philox.ts';

/** Philox stream of a draw's timestep; the noise is stream 0 and is made natively. */
const TIMESTEP_STREAM = 1;

/**
 * The timestep of draw `k` of `draws`, stratified: t = min + ⌊(k + u)·(max − min)/draws⌋, u in [0, 1) from the draw's own
 * seed. The same rule as in caches (potstill-noise), so a fresh draw and a cached one of equal seed agree.
 *
 * @param range [min, max): max is never drawn
 */
export function drawTimestep(seed: bigint, range: readonly [number, number], k = 0, draws = 1): number {
  const [min, max] = range;
  const u = philox(keyOf(seed), [0, 0, TIMESTEP_STREAM, 0])[0] * 2 ** -32;
  return min + Math.floor(((k + u) * (max - min)) / draws);
}
