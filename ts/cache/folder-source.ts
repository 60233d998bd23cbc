import { constants, lstatSync, openSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { HeldFile } from './held-file.ts';
import { type CacheSource, isSourceFailure, MAX_CACHE_DEPTH, type SourceFailure, sourceFailure } from './source.ts';

/** The files of a cache's folder, never followed through links. Reads are synchronous, for WASM cannot wait. */
export class FolderSource implements CacheSource, Disposable {
  readonly #root: string;
  readonly #file = new HeldFile();
  /** The file whose length was asked for last: most often it is read next. */
  #sized: { readonly path: string; readonly full: string } | undefined;

  constructor(root: string) {
    this.#root = root;
  }

  list(): string[] {
    const files: string[] = [];
    this.#walk('', 0, files);
    return files.sort();
  }

  size(path: string): number {
    this.#sized = undefined;
    return this.#try(() => {
      const full = this.#full(path);
      const info = lstatSync(full);
      if (info.isSymbolicLink()) throw sourceFailure('link', 'a symbolic link');
      if (!info.isFile()) throw sourceFailure('failed', 'not an ordinary file');
      this.#sized = { path, full };
      return info.size;
    });
  }

  read(path: string, offset: number, target: Uint8Array): number {
    return this.#try(() => {
      const known = this.#sized?.path === path ? this.#sized.full : undefined;
      const open = (full: string): number => {
        if (known === undefined) this.size(path);
        // It may have become a link since.
        return openSync(full, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0));
      };
      const count = this.#file.read(known ?? this.#full(path), offset, target, open);
      if (count < target.length) throw sourceFailure('too-short', 'ends early');
      return count;
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
  if (code === 'ELOOP') return sourceFailure('link', 'a symbolic link');
  if (code === 'ENOENT') return sourceFailure('missing', 'no such file');
  if (code === 'EACCES' || code === 'EPERM') return sourceFailure('failed', 'permission denied');
  if (errno !== undefined) return sourceFailure('failed', `the system's error ${Math.abs(errno)}`);
  return sourceFailure('failed', thrown instanceof Error ? thrown.message : String(thrown));
}
