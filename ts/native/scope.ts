import { AsyncLocalStorage } from 'node:async_hooks';
import type { Engine } from './engine.ts';
import type { Handle } from './handle.ts';

/** The temporary handles made in a scope that are still alive. */
export type Scope = Set<Handle>;

const scopes = new AsyncLocalStorage<Scope>();

/** The scope that the running code, or the code that awaits it, is in. */
export function currentScope(): Scope | undefined {
  return scopes.getStore();
}

/**
 * Runs `body` and frees the tensors and tapes made inside it, except those it returns (also in arrays, maps and plain
 * objects), which then belong to the scope around this one. Works with async functions: what is made after an `await`
 * belongs to the same scope.
 */
export function scope<T>(body: () => Promise<T>): Promise<T>;
export function scope<T>(body: () => T): T;
export function scope<T>(body: () => T | Promise<T>): T | Promise<T> {
  const outer = currentScope();
  const inner: Scope = new Set();
  let result: T | Promise<T>;
  try {
    result = scopes.run(inner, body);
  } catch (thrown) {
    disposeAll(inner);
    throw thrown;
  }
  if (!(result instanceof Promise)) return leave(result, inner, outer);
  return result.then(
    (value) => leave(value, inner, outer),
    (thrown) => {
      disposeAll(inner);
      throw thrown;
    },
  );
}

/** Takes a handle out of its scope: it lives until it is disposed. */
export function keep<T extends Handle>(handle: T): T {
  handle.moveTo(undefined);
  return handle;
}

function leave<T>(value: T, inner: Scope, outer: Scope | undefined): T {
  for (const handle of [...inner].filter(isIn(value))) handle.moveTo(outer);
  disposeAll(inner);
  return value;
}

/** Is a handle somewhere in a value? */
function isIn(value: unknown): (handle: Handle) => boolean {
  const seen = new Set<unknown>();
  const visit = (part: unknown): void => {
    if (typeof part !== 'object' || part === null || seen.has(part)) return;
    seen.add(part);
    if (part instanceof Map) for (const entry of part.values()) visit(entry);
    else if (Array.isArray(part) || isPlain(part)) for (const entry of Object.values(part)) visit(entry);
  };
  visit(value);
  return (handle) => seen.has(handle);
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function disposeAll(handles: Scope): void {
  const byEngine = new Map<Engine, number[]>();
  for (const handle of [...handles]) {
    const id = handle.retire();
    if (id === undefined) continue;
    const ids = byEngine.get(handle.engine);
    if (ids === undefined) byEngine.set(handle.engine, [id]);
    else ids.push(id);
  }
  for (const [engine, ids] of byEngine) engine.release(ids);
}
