/**
 * The WASM module against the addon on one thread without AVX (class `sse`): operations one by one, and the demo's UNet.
 * A ratio is WASM's time over the addon's.
 */
import { addon } from '../ts/native/index.ts';
import { compare } from './lib/compare.ts';
import { options, potstill } from './lib/options.ts';
import type { Program } from './lib/peer.ts';
import { publish } from './lib/publish.ts';

const { turns, iterations } = options({ turns: '6', iterations: '5' });
const plan = { turns: Number(turns), iterations: Number(iterations), warmUp: 2 };
/** A prediction of the demo's teacher, 128². */
const UNET = 'demo-unet';

/** Kernels that the addon's side uses: the best without AVX, which has no fused multiply-add, as WASM. */
const KERNELS = 'sse';

const side = (backend: 'native' | 'wasm', name: string): Program => potstill('wasm', [backend, name]);

process.env['POTSTILL_KERNELS'] = KERNELS; // of the addon's side, which inherits it
const operations: Record<string, object> = {};
for (const name of [...addon().workloads(), UNET]) {
  const { introductions, ...times } = await compare(
    { ours: side('wasm', name), theirs: side('native', name) },
    plan,
    (wasm, native) => {
      if (wasm['digest'] !== native['digest']) throw new Error(`${name}: the outputs differ: nothing is timed`);
    },
  );
  const [wasm, native] = introductions;
  operations[name] = { kernels: [wasm?.['kernels'], native?.['kernels']], ...times };
  process.stderr.write(`${name}: ${times.ratio?.toFixed(2)}\n`);
}
await publish('wasm', { threads: 1, plan, operations });
