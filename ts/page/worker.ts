import { teller } from '../cache/teller.ts';
import type { VerifyMessage } from '../cache/wasm-messages.ts';
import { recomputeSource, verifySource } from '../cache/wasm-module.ts';
import { toPotstillError } from '../errors.ts';
import { PickedFiles } from './files/picked-files.ts';
import { PickedSource } from './files/picked-source.ts';
import { ServedSource } from './files/served-source.ts';
import type { CacheInput, PageRequest } from './messages.ts';
import { loadPageWasm } from './wasm.ts';

const say = (message: VerifyMessage): void => self.postMessage(message);

function sourceOf(cache: CacheInput): PickedSource | ServedSource {
  return 'served' in cache ? new ServedSource(cache.served) : new PickedSource(new PickedFiles(cache.files));
}

async function verify({ cache, images, recomputation }: PageRequest): Promise<string> {
  const source = sourceOf(cache);
  const bytes = teller('bytes', say);
  try {
    if (recomputation === undefined) return await verifySource(loadPageWasm, source, cache.name, images, bytes);
    const files = new PickedFiles(recomputation.files);
    const reports = { bytes, entries: teller('entries', say) };
    return await recomputeSource(loadPageWasm, source, cache.name, files, recomputation.request, reports);
  } finally {
    if (source instanceof ServedSource) source.requireServer();
  }
}

self.addEventListener('message', async ({ data }: MessageEvent<PageRequest>) => {
  try {
    say({ kind: 'report', json: await verify(data) });
  } catch (thrown) {
    say({ kind: 'failure', error: toPotstillError(thrown).toJSON() });
  }
});
