import { type ErrorCode, PotstillError } from '../errors.ts';
import type { Outcome } from './generated/binding.js';

/** The value, or the error thrown as a {@link PotstillError}. */
export function unwrap<T>(outcome: Outcome<T>): T {
  if ('value' in outcome) return outcome.value;
  const { code, kind, what, where, remedy } = outcome.error;
  throw new PotstillError({ code: code as ErrorCode, kind, what, where, remedy });
}
