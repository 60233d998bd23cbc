import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

/** What of the global `WebAssembly` is used; its types come with a browser's library, which Node code must not see. */
const { WebAssembly } = globalThis as unknown as { WebAssembly: { compile(bytes: Uint8Array): Promise<unknown> } };

/** The WASM module, which verifies caches where no native addon runs. */
export interface WasmState {
  readonly file: string;
  readonly present: boolean;
  readonly bytes: number;
  /** Why it cannot be used although it is there. */
  readonly reason?: string;
}

/** Is the module there, and does this Node accept it? */
export async function inspectWasm(): Promise<WasmState> {
  const file = fileURLToPath(new URL('../native/wasm/potstill_wasm_bg.wasm', import.meta.url));
  const bytes = await readFile(file).catch(() => undefined);
  if (bytes === undefined) return { file, present: false, bytes: 0 };
  try {
    await WebAssembly.compile(bytes);
    return { file, present: true, bytes: bytes.length };
  } catch (error) {
    return { file, present: true, bytes: bytes.length, reason: (error as Error).message };
  }
}
