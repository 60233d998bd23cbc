import { closeSync, lstatSync, openSync, readdirSync, readSync } from 'node:fs';
import { join } from 'node:path';

/** Deepest folder that is listed: `teachers/<id>/file` needs 2. What lies deeper is no part of a cache. */
const MAX_DEPTH = 4;

/** Why a file could not be read; `kind` is what the WASM module tells apart. */
interface SourceFailure {
  readonly kind: 'missing' | 'link' | 'too-short' | 'failed';
  readonly reason: string;
  /** The folder that could not be listed, relative to the cache. */
  readonly path?: string;
}

/**
 * The files of a cache as the WASM module asks for them: by paths relative to the cache, in ranges, never followed through
 * links. Reads are synchronous, for WASM cannot wait; one file is held open, for ranges of a file follow one another.
 */
export class FolderSource implements Disposable {
  readonly #root: string;
  #open: { readonly path: string; readonly descriptor: number } | undefined;

  constructor(root: string) {
    this.#root = root;
  }

  /** Every file, sorted by code units. */
  list(): string[] {
    const files: string[] = [];
    this.#walk('', 0, files);
    return files.sort();
  }

  /** A file's length in bytes. */
  size(path: string): number {
    return this.#try(() => {
      const info = lstatSync(this.#full(path));
      if (info.isSymbolicLink()) throw failure('link', 'a symbolic link');
      if (!info.isFile()) throw failure('failed', 'not an ordinary file');
      return info.size;
    });
  }

  /** `length` bytes from `offset` on. */
  read(path: string, offset: number, length: number): Uint8Array {
    return this.#try(() => {
      const buffer = new Uint8Array(length);
      const descriptor = this.#descriptor(path);
      for (let filled = 0; filled < length; ) {
        const count = readSync(descriptor, buffer, filled, length - filled, offset + filled);
        if (count === 0) throw failure('too-short', 'ends early');
        filled += count;
      }
      return buffer;
    });
  }

  [Symbol.dispose](): void {
    if (this.#open !== undefined) closeSync(this.#open.descriptor);
    this.#open = undefined;
  }

  #descriptor(path: string): number {
    if (this.#open?.path === path) return this.#open.descriptor;
    this[Symbol.dispose]();
    this.size(path); // refuses links
    const descriptor = openSync(this.#full(path), 'r');
    this.#open = { path, descriptor };
    return descriptor;
  }

  /** A folder whose name is not UTF-8 is listed and not entered: no component has one. */
  #walk(below: string, depth: number, files: string[]): void {
    const folder = below === '' ? '.' : below;
    const list = () => readdirSync(join(this.#root, below), { withFileTypes: true, encoding: 'buffer' });
    for (const entry of this.#try(list, folder)) {
      const name = entry.name.toString();
      const isText = entry.name.equals(Buffer.from(name));
      const path = below === '' ? name : `${below}/${name}`;
      if (!isText || !entry.isDirectory()) files.push(path);
      else if (depth < MAX_DEPTH) this.#walk(path, depth + 1, files);
    }
  }

  /** Refuses whatever could leave the folder. */
  #full(path: string): string {
    const isPlain = (part: string): boolean => part !== '' && part !== '.' && part !== '..' && !/[\\:\0]/.test(part);
    if (!path.split('/').every(isPlain)) throw failure('failed', 'not a path within a cache');
    return join(this.#root, path);
  }

  #try<T>(read: () => T, folder?: string): T {
    try {
      return read();
    } catch (thrown) {
      if (typeof thrown === 'object' && thrown !== null && 'kind' in thrown) throw thrown;
      const { kind, reason } = explain(thrown);
      throw { ...failure(kind, reason), ...(folder === undefined ? {} : { path: folder }) } satisfies SourceFailure;
    }
  }
}

/** The system's words name languages, versions and full paths; a report says the same everywhere. */
function explain(thrown: unknown): SourceFailure {
  const { code, errno } = thrown as NodeJS.ErrnoException;
  if (code === 'ENOENT') return failure('missing', 'no such file');
  if (code === 'EACCES' || code === 'EPERM') return failure('failed', 'permission denied');
  if (errno !== undefined) return failure('failed', `the system's error ${Math.abs(errno)}`);
  return failure('failed', thrown instanceof Error ? thrown.message : String(thrown));
}

function failure(kind: SourceFailure['kind'], reason: string): SourceFailure {
  return { kind, reason };
}
