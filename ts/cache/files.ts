import type { Engine } from '../native/engine.ts';
import type { CacheHandle } from '../native/generated/binding.js';
import { unwrap } from '../native/outcome.ts';
import type { Shape } from '../native/shape.ts';
import { enqueueTensor, type Tensor } from '../native/tensor.ts';

/** Some records of a component, and what they are to be. */
export interface StoredRows {
  readonly component: string;
  /** Of the tensor, records first. */
  readonly shape: Shape;
  readonly records: readonly number[];
  /** One for all records, or one for each. */
  readonly fields: readonly string[];
}

/** The sealed components of a cache, opened by the addon. */
export class CacheFiles {
  readonly #handle: CacheHandle;

  private constructor(handle: CacheHandle) {
    this.#handle = handle;
  }

  /** Checks plans and seals; no shard is read. */
  static async open(engine: Engine, cache: string, teachers: readonly string[]): Promise<CacheFiles> {
    return new CacheFiles(unwrap(await engine.addon.openCache(cache, [...teachers])));
  }

  /** Rows as a tensor. */
  read(engine: Engine, { component, shape, records, fields }: StoredRows): Tensor {
    return enqueueTensor(engine, shape, (id) =>
      engine.native.readCache(id, this.#handle, component, [...fields], Float64Array.from(records)),
    );
  }

  /**
   * Begins to read rows, on threads of the addon's own, that {@link CacheFiles.read} will be asked for. It changes when
   * they are read, and nothing else; what is wrong with them is told where they are used.
   */
  readAhead({ component, records, fields }: StoredRows): void {
    this.#handle.readAhead(component, [...fields], Float64Array.from(records));
  }

  /** Seconds that engines have waited for rows so far. */
  get waitedSeconds(): number {
    return this.#handle.waitedSeconds;
  }
}
