import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { HeldFile } from './held-file.ts';
import { type CacheSource, isSourceFailure, MAX_CACHE_DEPTH, type SourceFailure, sourceFailure } from './source.ts';

/** The files of a cache's folder, never followed through links. Reads are synchronous, for WASM cannot wait. */
export class FolderSource implements CacheSource, Disposable {
  readonly #root: string;
  readonly #file = new HeldFile();

  constructor(root: string) {
    this.#root = root;
  }

  list(): string[] {
    const files: string[] = [];
    this.#walk('', 0, files);
    return files.sort();
  }

  size(path: string): number {
    return this.#try(() => {
      const info = lstatSync(this.#full(path));
      if (info.isSymbolicLink()) throw sourceFailure('link', 'a symbolic link');
      if (!info.isFile()) throw sourceFailure('failed', 'not an ordinary file');
      return info.size;
    });
  }

  read(path: string, offset: number, length: number): Uint8Array {
    return this.#try(() => {
      const refuseLinks = (): void => void this.size(path);
      const bytes = this.#file.read(this.#full(path), offset, length, refuseLinks);
      if (bytes.length < length) throw sourceFailure('too-short', 'ends early');
      return bytes;
    });
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
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
      else if (depth < MAX_CACHE_DEPTH) this.#walk(path, depth + 1, files);
    }
  }

  /** Refuses whatever could leave the folder. */
  #full(path: string): string {
    const isPlain = (part: string): boolean => part !== '' && part !== '.' && part !== '..' && !/[\\:\0]/.test(part);
    if (!path.split('/').every(isPlain)) throw sourceFailure('failed', 'not a path within a cache');
    return join(this.#root, path);
  }

  #try<T>(read: () => T, folder?: string): T {
    try {
      return read();
    } catch (thrown) {
      if (isSourceFailure(thrown)) throw thrown;
      const { kind, reason } = explain(thrown);
      throw {
        ...sourceFailure(kind, reason),
        ...(folder === undefined ? {} : { path: folder }),
      } satisfies SourceFailure;
    }
  }
}

/** The system's words name languages, versions and full paths; a report says the same everywhere. */
function explain(thrown: unknown): SourceFailure {
  const { code, errno } = thrown as NodeJS.ErrnoException;
  if (code === 'ENOENT') return sourceFailure('missing', 'no such file');
  if (code === 'EACCES' || code === 'EPERM') return sourceFailure('failed', 'permission denied');
  if (errno !== undefined) return sourceFailure('failed', `the system's error ${Math.abs(errno)}`);
  return sourceFailure('failed', thrown instanceof Error ? thrown.message : String(thrown));
}
