import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Root of the repository. */
export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
/** What set-up installs for itself: `cargo install --root`. */
export const TOOLS = join(ROOT, 'target', 'tools');
/** Stamps of finished steps. */
export const STAMPS = join(ROOT, 'target', 'setup');
/** Where the compiled addon and its types lie. */
export const ADDON = join(ROOT, 'ts', 'native', 'generated');
/** Where the compiled WASM module and its types lie. */
export const WASM = join(ROOT, 'ts', 'native', 'wasm');
/** The same of the module that also computes. */
export const WASM_COMPUTE = join(ROOT, 'ts', 'native', 'wasm-compute');
/** The page that verifies, as any web server can serve it. */
export const PAGE = join(ROOT, 'dist', 'verify-page');
/** What tsc writes. */
export const DIST = join(ROOT, 'dist');
