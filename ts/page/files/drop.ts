/** What a place for dropping does. */
export interface DropOptions {
  /** Given what was dropped; none where it was no file or folder. */
  readonly dropped: (entries: readonly FileSystemEntry[]) => void;
}

/** Makes an element take folders that are dropped, and the rest of the page refuse them instead of opening a file. */
export function takeDrops(element: HTMLElement, { dropped }: DropOptions): void {
  const over = (isOver: boolean) => (event: DragEvent) => {
    event.preventDefault();
    element.classList.toggle('over', isOver);
  };
  for (const name of ['dragenter', 'dragover'] as const) element.addEventListener(name, over(true));
  element.addEventListener('dragleave', over(false));
  element.addEventListener('drop', (event) => {
    over(false)(event);
    // The items are gone when this function returns.
    const entries = [...(event.dataTransfer?.items ?? [])].map((item) => item.webkitGetAsEntry());
    dropped(entries.filter((entry) => entry !== null));
  });
  for (const name of ['dragover', 'drop'] as const) document.addEventListener(name, (event) => event.preventDefault());
}
