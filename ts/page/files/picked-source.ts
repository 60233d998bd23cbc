import { type CacheSource, MAX_CACHE_DEPTH, sourceFailure } from '../../cache/source.ts';
import type { PickedFiles } from './picked-files.ts';

/**
 * A cache that the user gave. Browsers show neither links nor empty folders: what is behind a link is missing here.
 */
export class PickedSource implements CacheSource {
  readonly #files: PickedFiles;

  constructor(files: PickedFiles) {
    this.#files = files;
  }

  list(): string[] {
    const isReached = (path: string): boolean => path.split('/').length <= MAX_CACHE_DEPTH + 1;
    return [...this.#files.paths()].filter(isReached).sort();
  }

  size(path: string): number {
    const size = this.#files.size(path);
    if (size >= 0) return size;
    throw this.#files.isFolder(path)
      ? sourceFailure('failed', 'not an ordinary file')
      : sourceFailure('missing', 'no such file');
  }

  read(path: string, offset: number, target: Uint8Array): number {
    const { length } = target;
    if (offset + length > this.size(path)) throw sourceFailure('too-short', 'ends early');
    try {
      target.set(this.#files.read(path, offset, length));
      return length;
    } catch (thrown) {
      if (thrown instanceof DOMException && thrown.name === 'NotFoundError') {
        throw sourceFailure('missing', 'no such file');
      }
      throw sourceFailure('failed', 'the browser cannot read it: it was changed, or permission is missing');
    }
  }
}
