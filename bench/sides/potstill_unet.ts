/** potstill's UNet: `potstill_unet.ts THREADS WORKLOAD`, the workload as JSON. */
import { UnetBenchmark } from '../../ts/bench/index.ts';
import { loadEngine } from '../../ts/native/index.ts';
import { counted, packed, serve } from '../lib/serve.ts';

const [threads, json = ''] = process.argv.slice(2);
const { config, checked, ...workload } = JSON.parse(json);

const engine = await loadEngine({ threads: Number(threads) });
const unet = await UnetBenchmark.create(engine, config, workload);
const trained = workload.mode !== 'forward';
const predicted = await counted(engine, () => unet.prediction());
const { flops } = trained ? await counted(engine, () => unet.run()) : predicted;
const norms = trained ? await unet.gradientNorms(workload.mode === 'full' ? checked : undefined) : new Map();
await serve(
  {
    kernels: workload.dtype === 'bf16' ? engine.bf16KernelClass : engine.kernelClass,
    prediction: packed(predicted.value),
    flops,
    gradientNorms: Object.fromEntries(norms),
  },
  () => unet.run(),
);
