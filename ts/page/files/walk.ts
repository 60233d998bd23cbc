import type { PickedFile, PickedFolder } from './picked.ts';

/** Depth of folders that are entered: nobody nests caches, models or pictures deeper. */
const MAX_DEPTH = 16;

/** How to list what was given. */
export interface WalkOptions {
  /** Told how many files there are so far. */
  readonly found: (files: number) => void;
  readonly signal: AbortSignal;
}

/** Every file below a folder that was chosen through the File System Access API. */
export async function walkHandle(folder: FileSystemDirectoryHandle, options: WalkOptions): Promise<PickedFolder> {
  const files: PickedFile[] = [];
  const walk = async (handle: FileSystemDirectoryHandle, below: string, depth: number): Promise<void> => {
    for await (const [name, entry] of handle.entries()) {
      options.signal.throwIfAborted();
      if (entry instanceof FileSystemFileHandle) files.push({ path: below + name, file: await entry.getFile() });
      else if (depth < MAX_DEPTH) await walk(entry as FileSystemDirectoryHandle, `${below}${name}/`, depth + 1);
      options.found(files.length);
    }
  };
  await walk(folder, '', 0);
  return { name: folder.name, files };
}

/**
 * Every file below what was dropped: one folder, or the contents of a folder.
 *
 * @param entries of `webkitGetAsEntry`, which has to be called while the drop is handled
 */
export async function walkEntries(entries: readonly FileSystemEntry[], options: WalkOptions): Promise<PickedFolder> {
  const files: PickedFile[] = [];
  const walk = async (entry: FileSystemEntry, below: string, depth: number): Promise<void> => {
    options.signal.throwIfAborted();
    if (entry.isFile) files.push({ path: below + entry.name, file: await fileOf(entry as FileSystemFileEntry) });
    else if (depth <= MAX_DEPTH) await walkBelow(entry as FileSystemDirectoryEntry, `${below}${entry.name}/`, depth);
    options.found(files.length);
  };
  const walkBelow = async (folder: FileSystemDirectoryEntry, below: string, depth: number): Promise<void> => {
    for (const entry of await listEntries(folder)) await walk(entry, below, depth + 1);
  };
  const [first] = entries;
  if (entries.length === 1 && first?.isDirectory === true) {
    await walkBelow(first as FileSystemDirectoryEntry, '', 0);
    return { name: first.name, files };
  }
  for (const entry of entries) await walk(entry, '', 1);
  return { name: entries.map(({ name }) => name).join(', '), files };
}

const fileOf = (entry: FileSystemFileEntry): Promise<File> => new Promise((done, fail) => entry.file(done, fail));

/** A reader gives a part of the entries at a time, and none when it is through. */
async function listEntries(folder: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = folder.createReader();
  const all: FileSystemEntry[] = [];
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((done, fail) => reader.readEntries(done, fail));
    if (some.length === 0) return all;
    all.push(...some);
  }
}
