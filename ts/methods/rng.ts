import { seedOf, uniforms } from '../data/philox.ts';

/** Random numbers of one step: named streams, each a pure function of the run's seed, the step and the name. */
export interface Rng {
  /** `count` numbers in [0, 1); the same name gives the same numbers. */
  uniform(name: string, count: number): Float64Array;
}

/** The generator of one micro-batch of a run. */
export function stepRng(seed: number, batchNumber: number): Rng {
  return { uniform: (name, count) => uniforms(seedOf('method', name, seed, batchNumber), count) };
}
