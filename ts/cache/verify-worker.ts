import { parentPort, workerData } from 'node:worker_threads';
import { toPotstillError } from '../errors.ts';
import { FolderSource } from './folder-source.ts';
import type { VerifyMessage, VerifyRequest } from './wasm-messages.ts';
import { verifySource } from './wasm-module.ts';

/** Between two reports of progress, in milliseconds. */
const INTERVAL_MS = 100;

const say = (message: VerifyMessage): void => parentPort?.postMessage(message);

/** Tells of progress, but not of every shard of a million. */
function teller(): (done: number, total: number) => void {
  let last = Number.NEGATIVE_INFINITY;
  return (done, total) => {
    const now = performance.now();
    if (now - last < INTERVAL_MS) return;
    last = now;
    say({ kind: 'progress', done, total });
  };
}

const { cache, images } = workerData as VerifyRequest;
try {
  using source = new FolderSource(cache);
  say({ kind: 'report', json: await verifySource(source, cache, images, teller()) });
} catch (thrown) {
  say({ kind: 'failure', error: toPotstillError(thrown).toJSON() });
}
