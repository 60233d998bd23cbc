/** The modules that there are: `wasm` verifies, `wasm-compute` also computes. */
export const WASM_MODULES = { wasm: 'potstill_wasm', 'wasm-compute': 'potstill_compute' } as const;

export type WasmModuleName = keyof typeof WASM_MODULES;

/** Loads a module, by what is used of its exports. */
export type WasmLoader = <Exports>(name: WasmModuleName) => Promise<Exports>;
