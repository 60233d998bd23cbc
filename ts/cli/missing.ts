import type { PotstillError } from '../errors.ts';
import { notBuilt } from './not-built.ts';

/**
 * The error for a command of the design that is not built yet, or undefined when the words name none.
 *
 * @param words the arguments after `potstill`
 * @param built the commands that exist, by their first word
 * @param missing the commands that do not, by one or two words
 */
export function missingCommand(
  words: readonly string[],
  built: readonly { readonly name: string }[],
  missing: readonly string[],
): PotstillError | undefined {
  const end = words.findIndex((word) => word.startsWith('-'));
  const [first, second] = end < 0 ? words : words.slice(0, end);
  if (first === undefined) return undefined;
  const pair = `${first} ${second ?? ''}`;
  for (const name of [first, pair]) {
    if (missing.includes(name)) return notBuilt(`potstill ${name}`);
  }
  const wholeGroup = !built.some(({ name }) => name === first) && missing.some((name) => name.startsWith(`${first} `));
  return wholeGroup ? notBuilt(`potstill ${first}`) : undefined;
}
