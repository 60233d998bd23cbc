import type { Tensor } from '../../native/index.ts';
import type { Plan } from '../plan/types.ts';

/** The records of one shard on their way to disk. */
export interface ShardWriter {
  /**
   * Appends values of the next records to a field: a tensor [records, …] of f32. Resolves once they were computed.
   *
   * @param labels what errors call each of the records
   * @throws PotstillError `ERR_CACHE_NOT_FINITE` naming the first record that holds a NaN or an infinity
   */
  append(field: string, values: Tensor, labels: readonly string[]): Promise<void>;
  /** Writes the file: there whole or not at all. */
  finish(): Promise<void>;
}

/** How components are written. The files are Rust's; what is missing and in which order it is built is decided here. */
export interface ComponentStore {
  /** Makes the folder and writes the plan. */
  begin(folder: string, plan: Plan): Promise<void>;
  /** Whether a shard's file is there and is what the plan says; a damaged one counts as missing and is built anew. */
  isWhole(folder: string, plan: Plan, shard: number): Promise<boolean>;
  createShard(folder: string, plan: Plan, shard: number): ShardWriter;
  /** Writes the seal over all shards. */
  seal(folder: string): Promise<void>;
}
