import type { Engine } from './engine.ts';
import type { Outcome } from './generated/binding.js';
import { unwrap } from './outcome.ts';

/** Runs a job that fills a new handle; gives the handle's number and what the job found. Frees the number on failure. */
export async function allocateFor<T>(
  engine: Engine,
  job: (out: number) => Promise<Outcome<T>>,
): Promise<readonly [id: number, found: T]> {
  const id = engine.allocate();
  try {
    return [id, unwrap(await job(id))];
  } catch (thrown) {
    engine.release([id]);
    throw thrown;
  }
}
