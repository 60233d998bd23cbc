import { parentPort, workerData } from 'node:worker_threads';
import { toPotstillError } from '../errors.ts';
import { loadWasm } from '../native/load-wasm.ts';
import { DiskFiles } from './disk-files.ts';
import { FolderSource } from './folder-source.ts';
import { teller } from './teller.ts';
import type { VerifyMessage, VerifyRequest } from './wasm-messages.ts';
import { recomputeSource, verifySource } from './wasm-module.ts';

const say = (message: VerifyMessage): void => parentPort?.postMessage(message);

const { cache, images, recomputation } = workerData as VerifyRequest;
try {
  using source = new FolderSource(cache);
  using files = new DiskFiles();
  const bytes = teller('bytes', say);
  const json =
    recomputation === undefined
      ? await verifySource(loadWasm, source, cache, images, bytes)
      : await recomputeSource(loadWasm, source, cache, files, recomputation, {
          bytes,
          entries: teller('entries', say),
        });
  say({ kind: 'report', json });
} catch (thrown) {
  say({ kind: 'failure', error: toPotstillError(thrown).toJSON() });
}
