import type { Engine } from '../native/engine.ts';
import type { CacheHandle } from '../native/generated/binding.js';
import { addon } from '../native/load.ts';
import { unwrap } from '../native/outcome.ts';
import type { Shape } from '../native/shape.ts';
import { enqueueTensor, type Tensor } from '../native/tensor.ts';

/** The sealed components of a cache, opened by the addon. */
export class CacheFiles {
  readonly #handle: CacheHandle;

  private constructor(handle: CacheHandle) {
    this.#handle = handle;
  }

  /** Checks plans and seals; no shard is read. */
  static async open(cache: string, teachers: readonly string[]): Promise<CacheFiles> {
    return new CacheFiles(unwrap(await addon().openCache(cache, [...teachers])));
  }

  /**
   * Records of a component as a tensor.
   *
   * @param shape of the result, records first
   * @param fields one for all records, or one for each
   */
  read(engine: Engine, component: string, shape: Shape, records: readonly number[], fields: readonly string[]): Tensor {
    return enqueueTensor(engine, shape, (id) =>
      engine.native.readCache(id, this.#handle, component, [...fields], Float64Array.from(records)),
    );
  }
}
