import { readFileSync } from 'node:fs';
import { PotstillError } from '../errors.ts';
import { WASM_MODULES, type WasmModuleName } from './wasm-modules.ts';

/** What wasm-bindgen gives every module. */
interface Initialised {
  initSync(options: { readonly module: Uint8Array }): unknown;
}

/**
 * A WASM module, by what is used of its exports.
 *
 * @throws PotstillError `ERR_WASM_MISSING`
 */
export async function loadWasm<Exports>(name: WasmModuleName): Promise<Exports> {
  const folder = new URL(`./${name}/`, import.meta.url);
  try {
    // Generated: it is not there when this file is type-checked on a fresh clone.
    const wasm = (await import(new URL(`${WASM_MODULES[name]}.js`, folder).href)) as Exports & Initialised;
    wasm.initSync({ module: readFileSync(new URL(`${WASM_MODULES[name]}_bg.wasm`, folder)) });
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
