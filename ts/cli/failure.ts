import { match } from 'ts-pattern';
import type { ErrorKind, PotstillError } from '../errors.ts';
import { paint } from './style.ts';

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
  const lines = [`${paint('red', 'error', stream)}: ${error.what} ${paint('dim', `[${error.code}]`, stream)}`];
  if (error.where !== undefined) lines.push(`  where: ${error.where}`);
  if (error.remedy !== undefined) lines.push(`  do:    ${error.remedy}`);
  if (error.kind === 'bug' && error.cause instanceof Error && error.cause.stack !== undefined) {
    lines.push(paint('dim', error.cause.stack, stream));
  }
  return `${lines.join('\n')}\n`;
}
