import { inputError, machineError } from '../errors.ts';
import type { WasmLoader } from '../native/wasm-modules.ts';
import type { CacheSource, HostFiles } from './source.ts';
import type { Report } from './teller.ts';

/** What the module that verifies exports, as far as it is used here. */
interface VerifyingModule {
  verify(source: CacheSource, level: number, progress: Report, images?: string): string;
}

/** What the module that also computes exports, as far as it is used here. */
interface ComputingModule {
  recompute(source: CacheSource, files: HostFiles, request: string, progress: Report, entries: Report): string;
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
  load: WasmLoader,
  source: CacheSource,
  cache: string,
  images: string | undefined,
  report: Report,
): Promise<string> {
  const wasm = await load<VerifyingModule>('wasm');
  try {
    return wasm.verify(source, LEVEL, report, images);
  } catch (thrown) {
    throw asError(thrown, cache);
  }
}

/** What {@link recomputeSource} tells of its progress. */
export interface RecomputeReports {
  readonly bytes: Report;
  readonly entries: Report;
}

/**
 * As {@link verifySource}, and computes entries again from weights, by the module that has the engine.
 *
 * @param request which entries, and the models and images: as JSON, with paths that `files` knows
 * @throws PotstillError also for models that are not the cache's
 */
export async function recomputeSource(
  load: WasmLoader,
  source: CacheSource,
  cache: string,
  files: HostFiles,
  request: string,
  { bytes, entries }: RecomputeReports,
): Promise<string> {
  const wasm = await load<ComputingModule>('wasm-compute');
  try {
    return wasm.recompute(source, files, request, bytes, entries);
  } catch (thrown) {
    throw asError(thrown, cache);
  }
}

/** The module throws errors with a stable `code` and mostly a `remedy`. */
function asError(thrown: unknown, cache: string): unknown {
  if (isOutOfMemory(thrown)) {
    return machineError('ERR_WASM_STOPPED', `the WASM module was stopped (${thrown.message})`, {
      where: cache,
      remedy: 'Most likely the 4 GiB of memory that WASM can address were not enough: verify with the native backend.',
      cause: thrown,
    });
  }
  if (!(thrown instanceof Error) || !('code' in thrown)) return thrown;
  const code = CODES.get(thrown.code) ?? 'ERR_CACHE';
  const remedy = 'remedy' in thrown && typeof thrown.remedy === 'string' ? { remedy: thrown.remedy } : {};
  return inputError(code, thrown.message, { where: cache, ...remedy });
}

/**
 * How memory ends: where it cannot grow, the module is stopped without a word; a request beyond half of all addresses is
 * Rust's `capacity overflow`.
 */
function isOutOfMemory(thrown: unknown): thrown is Error {
  return thrown instanceof Error && (thrown.name === 'RuntimeError' || thrown.message.includes('capacity overflow'));
}

/** The module's codes that have a name of their own, as the addon gives it. */
const CODES = new Map<unknown, `ERR_${string}`>([
  ['no-cache', 'ERR_CACHE_MISSING'],
  ['unreadable', 'ERR_CACHE_UNREADABLE'],
  ['foreign-model', 'ERR_MODEL_FOREIGN'],
  ['model', 'ERR_MODEL'],
  ['no-plan', 'ERR_CACHE_PLAN'],
]);
