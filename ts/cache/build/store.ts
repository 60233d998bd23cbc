import type { Tensor } from '../../native/tensor.ts';
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

/** A shard of a plan: the records `from` to `to`, and whether its file is there already. */
export interface ShardState {
  readonly index: number;
  readonly from: number;
  readonly to: number;
  /** A damaged file counts as missing and is built anew. */
  readonly whole: boolean;
}

/** How components are written. The files are Rust's; what is computed, and in which order, is decided here. */
export interface ComponentStore {
  /**
   * Makes the component's folder, writes the plan, removes what a killed build left, and says which shards are there.
   * Nobody else can build the component until {@link end}. A part of a build shares it with other parts: what they are
   * writing is left alone, and a shard that one of them wrote first is kept.
   *
   * @throws PotstillError `ERR_CACHE_BUSY` while another build is at work on it
   */
  begin(cache: string, plan: Plan, isPart: boolean): Promise<readonly ShardState[]>;
  /** Whether a shard of a component that was begun is there by now. */
  isWhole(plan: Plan, index: number): Promise<boolean>;
  /** Of a component that was begun. */
  createShard(plan: Plan, index: number): ShardWriter;
  /** Writes the seal over all shards. */
  seal(plan: Plan): Promise<void>;
  /** Ends the build of a component that was begun, sealed or not. */
  end(plan: Plan): void;
}
