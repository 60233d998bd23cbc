import type { VerifyMessage } from '../cache/wasm-messages.ts';
import { PotstillError } from '../errors.ts';
import type { PageRequest } from './messages.ts';

/** Whom a run tells of its progress. */
export interface RunOptions {
  readonly bytes: (done: number, total: number) => void;
  readonly entries: (done: number, total: number) => void;
  readonly signal: AbortSignal;
}

/**
 * Verifies in a worker: WASM computes without a pause, and the page stays alive.
 *
 * @returns the report as canonical JSON
 * @throws PotstillError; the signal's reason, at once, when it is aborted
 */
export async function verifyInWorker(request: PageRequest, { bytes, entries, signal }: RunOptions): Promise<string> {
  signal.throwIfAborted();
  const worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
  let stop: (() => void) | undefined;
  try {
    return await new Promise((resolve, reject) => {
      stop = () => reject(signal.reason);
      signal.addEventListener('abort', stop);
      worker.addEventListener('message', ({ data }: MessageEvent<VerifyMessage>) => {
        if (data.kind === 'bytes') bytes(data.done, data.total);
        else if (data.kind === 'entries') entries(data.done, data.total);
        else if (data.kind === 'report') resolve(data.json);
        else reject(new PotstillError(data.error));
      });
      worker.addEventListener('error', ({ message }) => {
        reject(new Error(`the thread that verifies failed: ${message || 'its script cannot be loaded'}`));
      });
      worker.postMessage(request);
    });
  } finally {
    if (stop !== undefined) signal.removeEventListener('abort', stop);
    worker.terminate();
  }
}
