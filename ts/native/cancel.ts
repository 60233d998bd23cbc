import type { CancelToken } from './generated/binding.js';
import { addon } from './load.ts';

/** A token that an abort of the signal cancels, for as long as it is in use: a running job then ends soon. */
export function cancelled(signal: AbortSignal | undefined): Disposable & { readonly token: CancelToken } {
  const token = new (addon().CancelToken)();
  const cancel = (): void => token.cancel();
  if (signal?.aborted) cancel();
  signal?.addEventListener('abort', cancel);
  return { token, [Symbol.dispose]: () => signal?.removeEventListener('abort', cancel) };
}
