import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { inputError } from '../errors.ts';
import { addonCandidates } from '../native/load.ts';
import { type Progress, type ProgressTask, silentProgress } from '../progress.ts';
import { imageIdOf, listImages } from './data/walk.ts';
import type { VerificationReport } from './report.ts';
import { verifyNatively } from './verify-native.ts';
import { verifyInWasm } from './verify-wasm.ts';

/** What verifies: the addon, the WASM module, or the module where there is no addon. */
export type VerifyBackend = 'auto' | 'native' | 'wasm';

/** The images that a cache in the files layout was made of. Its files seldom name them. */
export interface FilesImages {
  /** Folder of the images. */
  readonly folder: string;
  /** Version in the names of the files; `1` when left out. */
  readonly version?: string | undefined;
  /** Base seed of the seeds; 42 when left out. */
  readonly baseSeed?: number | undefined;
}

/** How to verify. */
export interface VerifyOptions {
  readonly backend?: VerifyBackend | undefined;
  /** With them the seeds of a cache in the files layout are made anew, and images without a file found. */
  readonly images?: FilesImages | undefined;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A report, as it was written and parsed. */
export interface Verification {
  /** Canonical JSON: the same bytes from every backend, on every machine. */
  readonly json: string;
  readonly report: VerificationReport;
  readonly backend: 'native' | 'wasm';
}

/** Reports bytes that were read, of so many. */
export type ReportBytes = (done: number, total: number) => void;

/**
 * Verifies a cache: structure (every file parses; digests, shapes, finite values, coverage of the plan) and determinism
 * (seeds, timesteps and noise made anew; predictions plausible). Reads nothing but the cache, and writes nothing.
 * Whatever is wrong in the cache is a finding of the report. Both layouts are recognised; the files layout has no plan, so
 * its files are held against their names, their seeds and one another.
 *
 * @throws PotstillError when the folder is no cache at all, or the backend that was named is not there
 */
export async function verifyCache(folder: string, options: VerifyOptions = {}): Promise<Verification> {
  const { backend = 'auto', progress = silentProgress, signal, images } = options;
  const cache = resolve(folder);
  const info = await stat(cache).catch(() => undefined);
  if (info?.isDirectory() !== true) {
    throw inputError('ERR_CACHE_MISSING', info === undefined ? 'no such folder' : 'is not a folder', {
      where: folder,
      remedy: "Name the cache's folder: the one with latents, text and teachers in it, or with the teachers' files.",
    });
  }
  // Begun at the first report, for only then is it known how much there is to read.
  let task: ProgressTask | undefined;
  const report: ReportBytes = (done, total) => {
    if (total === 0) return;
    task ??= progress.start('verifying', { total, unit: 'bytes' });
    task.set(done);
  };
  const run =
    backend === 'wasm' || (backend === 'auto' && !addonCandidates().some(({ loaded }) => loaded))
      ? verifyInWasm
      : verifyNatively;
  try {
    const named = images === undefined ? undefined : await nameImages(images);
    const json = await run(cache, named, report, signal);
    return { json, report: JSON.parse(json) as VerificationReport, backend: run === verifyInWasm ? 'wasm' : 'native' };
  } finally {
    task?.end();
  }
}

/** Defaults of the layout's makers. */
const DEFAULT_VERSION = '1';
const DEFAULT_BASE_SEED = 42;

/** Images as addon and WASM module take them. */
async function nameImages({ folder, version, baseSeed }: FilesImages): Promise<string> {
  const paths = await listImages(folder, 'Check the path given to --images.');
  const ids = [...new Set(paths.map(imageIdOf))];
  return JSON.stringify({ ids, version: version ?? DEFAULT_VERSION, baseSeed: baseSeed ?? DEFAULT_BASE_SEED });
}
