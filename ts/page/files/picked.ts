/** A file that the user gave, under its path relative to what was given, with `/` between the parts. */
export interface PickedFile {
  readonly path: string;
  readonly file: File;
}

/** A folder that the user gave. */
export interface PickedFolder {
  readonly name: string;
  readonly files: readonly PickedFile[];
}

/** A folder of `<input type="file" webkitdirectory>`: every file's path begins with the folder's name. */
export function fromInput(list: Iterable<File>): PickedFolder {
  const files: PickedFile[] = [];
  let name = '';
  for (const file of list) {
    const [root = '', ...below] = file.webkitRelativePath.split('/');
    name = root;
    files.push({ path: below.join('/'), file });
  }
  return { name, files };
}

/** Bytes of all files. */
export function bytesOf({ files }: PickedFolder): number {
  return files.reduce((sum, { file }) => sum + file.size, 0);
}
