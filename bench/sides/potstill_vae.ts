/** potstill's VAE: `potstill_vae.ts THREADS WORKLOAD`, the workload as JSON. */
import { VaeBenchmark } from '../../ts/bench/index.ts';
import { loadEngine } from '../../ts/native/index.ts';
import { counted, packed, serve } from '../lib/serve.ts';

const [threads, json = ''] = process.argv.slice(2);
const { config, ...workload } = JSON.parse(json);

const engine = await loadEngine({ threads: Number(threads) });
const vae = await VaeBenchmark.create(engine, config, workload);
const { value, flops } = await counted(engine, () => vae.output());
await serve({ kernels: engine.kernelClass, output: packed(value), flops }, () => vae.run());
