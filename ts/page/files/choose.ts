import { fromInput, type PickedFolder } from './picked.ts';
import { type WalkOptions, walkHandle } from './walk.ts';

/** Where the File System Access API is: it asks plainly, and does not speak of an upload. */
interface PickerWindow {
  showDirectoryPicker?(options: { readonly mode: 'read' }): Promise<FileSystemDirectoryHandle>;
}

/**
 * Lets the user choose a folder.
 *
 * @param input an `<input type="file" webkitdirectory>`, for browsers without the File System Access API
 * @returns undefined when the user chose none
 */
export async function chooseFolder(input: HTMLInputElement, options: WalkOptions): Promise<PickedFolder | undefined> {
  const { showDirectoryPicker } = window as PickerWindow;
  if (showDirectoryPicker === undefined) {
    const files = await chooseWith(input);
    return files && fromInput(files);
  }
  let handle: FileSystemDirectoryHandle;
  try {
    handle = await showDirectoryPicker.call(window, { mode: 'read' });
  } catch (thrown) {
    if (thrown instanceof DOMException && thrown.name === 'AbortError') return undefined;
    throw thrown;
  }
  return walkHandle(handle, options);
}

/** Lets the user choose one file; as a folder of it alone. */
export async function chooseFile(input: HTMLInputElement): Promise<PickedFolder | undefined> {
  const [file] = (await chooseWith(input)) ?? [];
  return file && { name: file.name, files: [{ path: '', file }] };
}

/** Opens an input's dialog. */
function chooseWith(input: HTMLInputElement): Promise<File[] | undefined> {
  return new Promise((resolve) => {
    const settled = new AbortController();
    const settle = (): void => {
      settled.abort();
      const files = [...(input.files ?? [])];
      input.value = '';
      resolve(files.length > 0 ? files : undefined);
    };
    input.addEventListener('change', settle, settled);
    input.addEventListener('cancel', settle, settled);
    input.click();
  });
}
