import type { HostFiles } from '../../cache/source.ts';
import { freeAtOnce } from './free.ts';
import type { PickedFile } from './picked.ts';
import { ReadWindow } from './window.ts';

/** What workers have and TypeScript's types of pages do not. */
declare const FileReaderSync: new () => { readAsArrayBuffer(blob: Blob): ArrayBuffer };

/** Files that the user gave, read synchronously and in pieces, as WASM asks for them: in workers alone. */
export class PickedFiles implements HostFiles {
  readonly #files: ReadonlyMap<string, File>;
  readonly #folders = new Set<string>();
  readonly #reader = new FileReaderSync();
  readonly #window = new ReadWindow((path, offset, length) => {
    const piece = this.#file(path).slice(offset, offset + length);
    return new Uint8Array(this.#reader.readAsArrayBuffer(piece));
  }, freeAtOnce);

  constructor(files: readonly PickedFile[]) {
    this.#files = new Map(files.map(({ path, file }) => [path, file]));
    for (const path of this.#files.keys()) {
      for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1)) {
        this.#folders.add(path.slice(0, end));
      }
    }
  }

  paths(): Iterable<string> {
    return this.#files.keys();
  }

  size(path: string): number {
    return this.#files.get(path)?.size ?? -1;
  }

  isFolder(path: string): boolean {
    return this.#folders.has(path);
  }

  read(path: string, offset: number, length: number): Uint8Array {
    const { size } = this.#file(path);
    if (offset + length > size) throw new Error(`${path} ends early`);
    return this.#window.read(path, offset, length, size);
  }

  #file(path: string): File {
    const file = this.#files.get(path);
    if (file === undefined) throw new Error(`${path} is not among the files that were given`);
    return file;
  }
}
