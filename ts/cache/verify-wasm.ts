import { readFileSync } from 'node:fs';
import { inputError, PotstillError } from '../errors.ts';
import { FolderSource } from './folder-source.ts';
import type { ReportBytes } from './verify.ts';

/** What the WASM module exports, as far as it is used here. */
interface WasmModule {
  initSync(options: { readonly module: Uint8Array }): unknown;
  verify(source: FolderSource, level: number, progress: ReportBytes): string;
}

/** Both levels that need no model. */
const LEVEL = 2;

let loaded: Promise<WasmModule> | undefined;

/** Verifies a cache by the WASM module, on this thread. */
export async function verifyInWasm(cache: string, report: ReportBytes, signal?: AbortSignal): Promise<string> {
  loaded ??= loadModule();
  const wasm = await loaded;
  using source = new FolderSource(cache);
  try {
    const json = wasm.verify(source, LEVEL, report);
    signal?.throwIfAborted();
    return json;
  } catch (thrown) {
    throw asError(thrown, cache);
  }
}

async function loadModule(): Promise<WasmModule> {
  const folder = new URL('../native/wasm/', import.meta.url);
  try {
    // Generated: it is not there when this file is type-checked on a fresh clone.
    const wasm = (await import(new URL('potstill_wasm.js', folder).href)) as WasmModule;
    wasm.initSync({ module: readFileSync(new URL('potstill_wasm_bg.wasm', folder)) });
    return wasm;
  } catch (cause) {
    loaded = undefined;
    throw new PotstillError({
      code: 'ERR_WASM_MISSING',
      kind: 'machine',
      what: `the WASM module cannot be loaded: ${cause instanceof Error ? cause.message : String(cause)}`,
      where: folder.pathname,
      remedy: 'Install potstill again (in a clone: `npm run setup`).',
      cause,
    });
  }
}

/** The module throws errors whose message begins with a stable code. */
function asError(thrown: unknown, cache: string): unknown {
  if (!(thrown instanceof Error) || thrown instanceof PotstillError) return thrown;
  const [, code, what] = /^([a-z][a-z-]*): ([\s\S]*)$/.exec(thrown.message) ?? [];
  if (what === undefined) return thrown;
  return inputError(code === 'no-cache' ? 'ERR_CACHE_MISSING' : 'ERR_CACHE', what, { where: cache });
}
