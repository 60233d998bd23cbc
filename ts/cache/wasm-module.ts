import { readFileSync } from 'node:fs';
import { inputError, PotstillError } from '../errors.ts';
import type { FolderSource } from './folder-source.ts';
import type { ReportBytes } from './verify.ts';

/** What the WASM module exports, as far as it is used here. */
interface WasmModule {
  initSync(options: { readonly module: Uint8Array }): unknown;
  verify(source: FolderSource, level: number, progress: ReportBytes, images?: string): string;
}

/** Both levels that need no model. */
const LEVEL = 2;

/**
 * Verifies the files of a cache by the WASM module, on this thread and without a pause.
 *
 * @param cache what errors call it
 * @param images the images of a cache in the files layout, as JSON
 * @throws PotstillError `ERR_WASM_MISSING`, or as the native backend
 */
export async function verifySource(
  source: FolderSource,
  cache: string,
  images: string | undefined,
  report: ReportBytes,
): Promise<string> {
  const wasm = await loadModule();
  try {
    return wasm.verify(source, LEVEL, report, images);
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

/** The module throws errors with a stable `code` and mostly a `remedy`. */
function asError(thrown: unknown, cache: string): unknown {
  if (!(thrown instanceof Error) || !('code' in thrown)) return thrown;
  const code = CODES.get(thrown.code) ?? 'ERR_CACHE';
  const remedy = 'remedy' in thrown && typeof thrown.remedy === 'string' ? { remedy: thrown.remedy } : {};
  return inputError(code, thrown.message, { where: cache, ...remedy });
}

/** The module's codes that have a name of their own, as the addon gives it. */
const CODES = new Map<unknown, `ERR_${string}`>([
  ['no-cache', 'ERR_CACHE_MISSING'],
  ['unreadable', 'ERR_CACHE_UNREADABLE'],
]);
