import { Worker } from 'node:worker_threads';
import { PotstillError } from '../errors.ts';
import type { BackendOptions } from './verify.ts';
import type { VerifyMessage, VerifyRequest } from './wasm-messages.ts';

/**
 * Verifies a cache by the WASM module, on a thread of its own: WASM computes without a pause, and this thread has a Ctrl-C
 * to hear and a terminal to write to.
 *
 * @throws PotstillError as the native backend; the signal's reason, at once, when it is aborted
 */
export async function verifyInWasm(
  cache: string,
  { images, recomputation, bytes, entries, signal }: BackendOptions,
): Promise<string> {
  signal?.throwIfAborted();
  const worker = startWorker({ cache, images, recomputation });
  const { promise, resolve, reject } = settlement<string>();
  const stop = (): void => reject(signal?.reason);
  signal?.addEventListener('abort', stop);
  worker.on('message', (message: VerifyMessage) => {
    if (message.kind === 'bytes') bytes(message.done, message.total);
    else if (message.kind === 'entries') entries(message.done, message.total);
    else if (message.kind === 'report') resolve(message.json);
    else reject(new PotstillError(message.error));
  });
  worker.on('error', reject);
  worker.on('exit', (code) => reject(new Error(`the thread that verifies ended without a report (${code})`)));
  try {
    return await promise;
  } finally {
    signal?.removeEventListener('abort', stop);
    await worker.terminate();
  }
}

/** Beside this file lies the worker's: JavaScript when built, TypeScript in a clone. */
function startWorker(workerData: VerifyRequest): Worker {
  const here = import.meta.url;
  if (!here.endsWith('.ts')) return new Worker(new URL('./verify-worker.js', here), { workerData, execArgv: [] });
  const starter = new URL('../../scripts/lib/ts-worker.mjs', here);
  return new Worker(starter, { workerData, argv: [new URL('./verify-worker.ts', here).href], execArgv: [] });
}

/** A promise with its ends, as `Promise.withResolvers` of later versions of Node. */
function settlement<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (reason: unknown) => void } {
  let ends: { resolve: (value: T) => void; reject: (reason: unknown) => void } | undefined;
  const promise = new Promise<T>((resolve, reject) => {
    ends = { resolve, reject };
  });
  return { promise, ...(ends as NonNullable<typeof ends>) };
}
