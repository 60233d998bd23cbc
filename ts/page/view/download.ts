/** How long the browser is given to begin a download before its source is freed, in milliseconds. */
const KEPT_MS = 60_000;

/** Saves text as a file, where the browser saves downloads. */
export function saveText(name: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: 'application/json' }));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), KEPT_MS);
}
