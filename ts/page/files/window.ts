/** Bytes that are read at once where less is asked for: a question to the browser costs more than these bytes. */
const WINDOW = 1 << 20;

/** Reads a range of a file into a buffer of its own. */
type ReadRange = (path: string, offset: number, length: number) => Uint8Array;

/** Small reads of a file, answered out of larger ones. One buffer is held; what was returned is good until the next read. */
export class ReadWindow {
  readonly #readRange: ReadRange;
  readonly #free: (bytes: Uint8Array) => void;
  #held: { readonly path: string; readonly offset: number; readonly bytes: Uint8Array } | undefined;

  /** @param free what is done with a buffer that is held no longer; collection sees to it when left out */
  constructor(readRange: ReadRange, free: (bytes: Uint8Array) => void = () => {}) {
    this.#readRange = readRange;
    this.#free = free;
  }

  /** @param size the file's length: nothing is read beyond it */
  read(path: string, offset: number, length: number, size: number): Uint8Array {
    const held = this.#held;
    const start = offset - (held?.offset ?? 0);
    if (held?.path === path && start >= 0 && start + length <= held.bytes.length) {
      return held.bytes.subarray(start, start + length);
    }
    if (held !== undefined) this.#free(held.bytes);
    this.#held = undefined;
    const bytes = this.#readRange(path, offset, Math.max(length, Math.min(WINDOW, size - offset)));
    this.#held = { path, offset, bytes };
    return bytes.subarray(0, length);
  }
}
