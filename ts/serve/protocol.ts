/** Below it, and a key that nobody guesses, a served cache answers `about`, `list`, `size` and `read`. */
export const SERVED_ROOT = '/served/';

/** The status of an answer that is a `SourceFailure`: a file of the cache cannot be read. */
export const SERVED_FAILURE_STATUS = 422;

/** Most bytes of one answer to `read`: more are asked for in pieces, so that the server never holds much. */
export const SERVED_MAX_READ = 4 << 20;

/** What `about` answers. */
export interface ServedCache {
  /** The cache's folder, as the user named it. */
  readonly name: string;
}
