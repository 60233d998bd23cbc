import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Names of the browsers that speak the DevTools protocol. */
const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome', 'microsoft-edge'];

/** Names a browser that is not on PATH, or with an empty value none. */
const VARIABLE = 'POTSTILL_CHROMIUM';

/**
 * A Chromium of this machine. Where there is one, the page is tested; where there is none, tests are skipped and say so.
 *
 * @throws Error when the one that the environment names cannot be run
 */
export function findChromium(): string | undefined {
  const named = process.env[VARIABLE];
  if (named && !isExecutable(named)) throw new Error(`${VARIABLE} names ${named}, which cannot be run`);
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  const paths = NAMES.flatMap((name) => folders.map((folder) => join(folder, name)));
  const found = named === undefined ? paths.find(isExecutable) : named || undefined;
  if (found === undefined) {
    console.warn(
      `SKIPPED: the page that verifies is not tested in a browser, for there is none on PATH (${NAMES.join(', ')}), or ${VARIABLE} is empty. Install one, or name it in ${VARIABLE}.`,
    );
  }
  return found;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
