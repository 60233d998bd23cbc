import type { BatchRow } from '../data/batches.ts';
import type { Batch } from '../methods/define.ts';

/** Turns rows into tensors: the one door between a run and its caches. */
export interface BatchSource {
  /** Key of a sample, for messages. */
  keyOf(row: BatchRow): string;
  /** Assembles a batch; its tensors belong to the current scope. */
  load(rows: readonly BatchRow[]): Batch;
  /**
   * Begins to read, beside what the engine computes, what {@link BatchSource.load} of these rows will need. It changes when
   * they are read and nothing else. Absent where nothing is read.
   */
  readAhead?(rows: readonly BatchRow[]): void;
}
