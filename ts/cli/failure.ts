import { match } from 'ts-pattern';
import type { ErrorKind, PotstillError } from '../errors.ts';
import { paint } from './style.ts';

/** Lines of an error that people are shown: a mismatched model lists hundreds of keys. `--json` has all. */
const SHOWN_LINES = 24;

/** The exit code of a command that ended with an error of this kind. */
export function exitCodeOf(kind: ErrorKind): number {
  return match(kind)
    .with('check', 'bug', () => 1)
    .with('input', () => 2)
    .with('machine', () => 3)
    .with('interrupted', () => 130)
    .exhaustive();
}

/** An error for a person: what, where, what to do, a line each; a bug with its stack. */
export function formatError(error: PotstillError, stream: { readonly isTTY?: boolean }): string {
  const [first = '', ...listed] = error.what.split('\n');
  const lines = [`${paint('red', 'error', stream)}: ${first} ${paint('dim', `[${error.code}]`, stream)}`];
  // One line more would be no longer than saying that it is left out.
  const shown = listed.length > SHOWN_LINES + 1 ? listed.slice(0, SHOWN_LINES) : listed;
  lines.push(...shown);
  if (shown.length < listed.length) {
    lines.push(`  and ${listed.length - shown.length} more lines; --json has all`);
  }
  if (error.where !== undefined) lines.push(`  where: ${error.where}`);
  if (error.remedy !== undefined) lines.push(`  do:    ${error.remedy}`);
  if (error.kind === 'bug' && error.cause instanceof Error && error.cause.stack !== undefined) {
    lines.push(paint('dim', error.cause.stack, stream));
  }
  return `${lines.join('\n')}\n`;
}
