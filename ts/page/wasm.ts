import { PotstillError } from '../errors.ts';
import { WASM_MODULES, type WasmModuleName } from '../native/wasm-modules.ts';

/** What wasm-bindgen gives every module. */
interface Initialisable {
  default(options: { readonly module_or_path: URL }): Promise<unknown>;
}

/**
 * A WASM module of the page's own server, by what is used of its exports.
 *
 * @throws PotstillError `ERR_WASM_MISSING`
 */
export async function loadPageWasm<Exports>(name: WasmModuleName): Promise<Exports> {
  const folder = new URL(`../native/${name}/`, import.meta.url);
  try {
    const wasm = (await import(new URL(`${WASM_MODULES[name]}.js`, folder).href)) as Exports & Initialisable;
    await wasm.default({ module_or_path: new URL(`${WASM_MODULES[name]}_bg.wasm`, folder) });
    return wasm;
  } catch (cause) {
    throw new PotstillError({
      code: 'ERR_WASM_MISSING',
      kind: 'machine',
      what: `the WASM module cannot be loaded: ${cause instanceof Error ? cause.message : String(cause)}`,
      where: folder.href,
      remedy: 'Load the page again; whoever serves it has to serve the folder `native` beside it.',
      cause,
    });
  }
}
