import { PotstillError } from '../errors.ts';
import type { Engine } from './engine.ts';
import { currentScope, type Scope } from './scope.ts';

/** Handles that were dropped without `dispose()`: the safety net, not the rule, for collection comes late. */
const forgotten = new FinalizationRegistry<{ readonly engine: Engine; readonly id: number }>(({ engine, id }) =>
  engine.release([id]),
);

/**
 * Something that lives on an engine's thread. Disposing frees it once no graph holds on to it; a handle is of no use
 * afterwards. {@link Tensor}s and tapes made inside a {@link scope} are freed with it.
 */
export abstract class Handle implements Disposable {
  readonly engine: Engine;
  readonly #id: number;
  #disposed = false;
  #scope: Scope | undefined;

  /** @param temporary does it end with the scope that it is made in? */
  protected constructor(engine: Engine, id: number, temporary: boolean) {
    this.engine = engine;
    this.#id = id;
    forgotten.register(this, { engine, id }, this);
    if (temporary) this.moveTo(currentScope());
  }

  /**
   * Number of the handle on the engine's thread; for the modules of `ts/native`.
   *
   * @throws PotstillError when it was disposed
   */
  get id(): number {
    if (!this.#disposed) return this.#id;
    throw new PotstillError({
      code: 'ERR_HANDLE_DISPOSED',
      kind: 'bug',
      what: `a ${this.constructor.name} was used after it was freed`,
      remedy: 'Return it from its scope(…), or make it outside, when it is needed for longer.',
    });
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  dispose(): void {
    const id = this.retire();
    if (id !== undefined) this.engine.release([id]);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Marks the handle as freed without telling the engine; gives the number that is to be released. */
  retire(): number | undefined {
    if (this.#disposed) return undefined;
    this.#disposed = true;
    this.#scope?.delete(this);
    forgotten.unregister(this);
    return this.#id;
  }

  /** Lets another scope, or none, free the handle. */
  moveTo(scope: Scope | undefined): void {
    this.#scope?.delete(this);
    this.#scope = scope;
    scope?.add(this);
  }
}
