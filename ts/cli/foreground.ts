import { readFileSync } from 'node:fs';

/**
 * Whether this process may change its terminal: whoever works in the background (`command &`) is stopped when it tries.
 * Where the system does not say, it may.
 *
 * Of `/proc/self/stat`, fields 5 and 8 are the group of the process and the one that its terminal is for (proc(5)); the
 * second field, a name in parentheses, may hold blanks.
 */
export function isInForeground(stat: () => string = () => readFileSync('/proc/self/stat', 'utf8')): boolean {
  let text: string;
  try {
    text = stat();
  } catch {
    return true;
  }
  const [, , , group, , , owner] = text.slice(text.lastIndexOf(')') + 1).split(' ');
  return owner === group;
}
