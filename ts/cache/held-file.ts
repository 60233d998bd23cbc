import { closeSync, openSync, readSync } from 'node:fs';

/**
 * Reads ranges of files for the WASM module, which cannot wait, so at once. One file is held open, for ranges of a file follow
 * one another.
 */
export class HeldFile implements Disposable {
  #open: { readonly path: string; readonly descriptor: number } | undefined;

  /**
   * Fills a buffer from `offset` on; gives the number of bytes, fewer than it has room for where the file ends before.
   *
   * @param open opens a file, where not as usual
   */
  read(path: string, offset: number, buffer: Uint8Array, open: (path: string) => number = openToRead): number {
    const { length } = buffer;
    const descriptor = this.#descriptor(path, open);
    let filled = 0;
    while (filled < length) {
      const count = readSync(descriptor, buffer, filled, length - filled, offset + filled);
      if (count === 0) break;
      filled += count;
    }
    return filled;
  }

  [Symbol.dispose](): void {
    if (this.#open !== undefined) closeSync(this.#open.descriptor);
    this.#open = undefined;
  }

  #descriptor(path: string, open: (path: string) => number): number {
    if (this.#open?.path === path) return this.#open.descriptor;
    this[Symbol.dispose]();
    const descriptor = open(path);
    this.#open = { path, descriptor };
    return descriptor;
  }
}

const openToRead = (path: string): number => openSync(path, 'r');
