import type { DrawKey, Draws } from '../native/generated/binding.js';
import { addon } from '../native/load.ts';
import { unwrap } from '../native/outcome.ts';
import type { TeacherPlan } from './plan/types.ts';

/** Seeds and timesteps of draws by their keys: nothing is read. */
export function drawsOf({ noise, draws, timesteps }: TeacherPlan, keys: readonly DrawKey[]): Draws {
  const [from, to] = timesteps;
  return unwrap(addon().cacheDraws({ baseSeed: noise.baseSeed, draws, from, to }, [...keys]));
}
