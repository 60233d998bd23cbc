import { inputError } from '../errors.ts';
import { imageIdOf } from './data/image-names.ts';

/** Defaults of the files layout's makers. */
const DEFAULT_VERSION = '1';
const DEFAULT_BASE_SEED = 42;

/** What the names and seeds of a cache in the files layout were made with. */
export interface FilesNaming {
  /** Version in the names of the files; `1` when left out. */
  readonly version?: string | undefined;
  /** Base seed of the seeds; 42 when left out. */
  readonly baseSeed?: number | undefined;
}

/**
 * Images as addon and WASM module take them.
 *
 * @param paths relative to the folder of images
 */
export function imagesJson(paths: readonly string[], { version, baseSeed }: FilesNaming): string {
  const ids = [...new Set(paths.map(imageIdOf))];
  return JSON.stringify({ ids, version: version ?? DEFAULT_VERSION, baseSeed: baseSeed ?? DEFAULT_BASE_SEED });
}

/** Bytes of a nonce: nobody guesses it. */
const NONCE_BYTES = 16;
/** What a nonce may be: it stands in the report. */
const NONCE = /^[\w.-]{1,64}$/;

/** A recomputation with everything named. */
export interface RecomputeRequest {
  readonly entries: number;
  readonly nonce?: string | undefined;
  readonly models: readonly string[];
  readonly images: readonly string[];
}

/**
 * A recomputation as addon and WASM module take it; with a nonce of its own unless one is given.
 *
 * @throws PotstillError `ERR_USAGE` for what is no nonce
 */
export function recomputeJson({ entries, nonce = freshNonce(), models, images }: RecomputeRequest): string {
  if (!NONCE.test(nonce)) {
    throw inputError('ERR_USAGE', `${JSON.stringify(nonce)} is no nonce`, {
      where: '--nonce',
      remedy: 'Give 1 to 64 letters, digits, dots, dashes or underscores, such as those that a report shows.',
    });
  }
  return JSON.stringify({ entries, nonce, models, images });
}

function freshNonce(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
