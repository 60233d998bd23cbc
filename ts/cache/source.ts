/** The files of a cache as the WASM module asks for them, synchronously: by paths relative to it, with `/` between the parts. */
export interface CacheSource {
  /** Every file, sorted by code units. */
  list(): string[];
  /** A file's length in bytes. */
  size(path: string): number;
  /** Fills `target`, which lies in the module's own memory, from `offset` on; gives the number of bytes. */
  read(path: string, offset: number, target: Uint8Array): number;
}

/** Deepest folder that is listed: `teachers/<id>/file` needs 2. What lies deeper is no part of a cache. */
export const MAX_CACHE_DEPTH = 4;

/** What a {@link CacheSource} throws where a file cannot be read; `kind` is what the WASM module tells apart. */
export interface SourceFailure {
  readonly kind: 'missing' | 'link' | 'too-short' | 'failed';
  readonly reason: string;
  /** The folder that could not be listed, relative to the cache. */
  readonly path?: string;
}

export function sourceFailure(kind: SourceFailure['kind'], reason: string): SourceFailure {
  return { kind, reason };
}

export function isSourceFailure(thrown: unknown): thrown is SourceFailure {
  return typeof thrown === 'object' && thrown !== null && 'kind' in thrown && 'reason' in thrown;
}

/** Files of models and images as the WASM module asks for them: by the paths that it was given, and names below them. */
export interface HostFiles {
  /** Length in bytes; -1 when there is no such file. */
  size(path: string): number;
  isFolder(path: string): boolean;
  /** `length` bytes from `offset` on. */
  read(path: string, offset: number, length: number): Uint8Array;
}
