import { join } from 'node:path';
import { execute, type Outcome } from './execute.ts';

/** The built command line of this clone. */
export const MAIN = join(import.meta.dirname, '..', '..', 'dist', 'cli', 'main.js');

/** Runs the built command line in a folder. */
export function potstillIn(folder: string): (...words: string[]) => Promise<Outcome> {
  return (...words) => execute(process.execPath, [MAIN, ...words], folder);
}
