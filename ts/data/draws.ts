import { quantile, type TimestepDistribution } from './distribution.ts';
import { keyOf, philox } from './philox.ts';

const UNIFORM: TimestepDistribution = { id: 'uniform', shift: 1 };

/** Philox stream of a draw's timestep; the noise is stream 0 and is made natively. */
const TIMESTEP_STREAM = 1;

/**
 * The timestep of draw `k` of `draws`, stratified: t = min + ⌊(k + u)·(max − min)/draws⌋, u in [0, 1) from the draw's own
 * seed. The same rule as in caches (potstill-noise), so a fresh draw and a cached one of equal seed agree.
 *
 * @param range [min, max): max is never drawn
 * @param distribution how timesteps are spread over the range; strata are of equal probability
 */
export function drawTimestep(
  seed: bigint,
  range: readonly [number, number],
  k = 0,
  draws = 1,
  distribution: TimestepDistribution = UNIFORM,
): number {
  const [min, max] = range;
  const u = philox(keyOf(seed), [0, 0, TIMESTEP_STREAM, 0])[0] * 2 ** -32;
  if (distribution.id === 'uniform' && distribution.shift === 1) {
    return min + Math.floor(((k + u) * (max - min)) / draws);
  }
  return min + Math.min(max - min - 1, Math.floor(quantile(distribution, (k + u) / draws) * (max - min)));
}
