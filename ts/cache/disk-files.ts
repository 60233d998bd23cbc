import { statSync } from 'node:fs';
import { HeldFile } from './held-file.ts';
import type { HostFiles } from './source.ts';

/**
 * Files of models and images on disk. Unlike those of a cache they are the user's own, so links are followed. Reads are
 * synchronous, for WASM cannot wait.
 */
export class DiskFiles implements HostFiles, Disposable {
  readonly #file = new HeldFile();

  size(path: string): number {
    const info = statSync(path, { throwIfNoEntry: false });
    return info?.isFile() === true ? info.size : -1;
  }

  isFolder(path: string): boolean {
    return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
  }

  read(path: string, offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    if (this.#file.read(path, offset, bytes) < length) throw new Error(`${path} ends early`);
    return bytes;
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}
