import { closeSync, openSync, readSync } from 'node:fs';

/** Largest buffer that is kept: what is read at a time of a shard, and most files of the files layout. */
const KEPT_BYTES = 4 << 20;

/**
 * Reads ranges of files for the WASM module, which cannot wait, so at once. One file is held open, for ranges of a file follow
 * one another.
 */
export class HeldFile implements Disposable {
  #open: { readonly path: string; readonly descriptor: number } | undefined;
  #buffer = new Uint8Array();

  /**
   * `length` bytes from `offset` on, or fewer where the file ends before: as they are until the next read, for a buffer of its own
   * for each would have to be cleared first.
   *
   * @param allow called with the path before a file is opened; what it throws keeps it from that
   */
  read(path: string, offset: number, length: number, allow: (path: string) => void = () => {}): Uint8Array {
    const buffer = this.#room(length);
    const descriptor = this.#descriptor(path, allow);
    let filled = 0;
    while (filled < length) {
      const count = readSync(descriptor, buffer, filled, length - filled, offset + filled);
      if (count === 0) break;
      filled += count;
    }
    return buffer.subarray(0, filled);
  }

  [Symbol.dispose](): void {
    if (this.#open !== undefined) closeSync(this.#open.descriptor);
    this.#open = undefined;
  }

  #room(length: number): Uint8Array {
    if (length > KEPT_BYTES) return new Uint8Array(length);
    if (this.#buffer.length < length) this.#buffer = new Uint8Array(length);
    return this.#buffer;
  }

  #descriptor(path: string, allow: (path: string) => void): number {
    if (this.#open?.path === path) return this.#open.descriptor;
    this[Symbol.dispose]();
    allow(path);
    const descriptor = openSync(path, 'r');
    this.#open = { path, descriptor };
    return descriptor;
  }
}
