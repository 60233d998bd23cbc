/** potstill's UNet: `potstill_unet.ts THREADS WORKLOAD`, the workload as JSON. */
import { UnetBenchmark } from '../../ts/bench/index.ts';
import { loadEngine } from '../../ts/native/index.ts';
import { serve } from '../lib/serve.ts';

const [threads, json = ''] = process.argv.slice(2);
const { config, checked, ...workload } = JSON.parse(json);

const engine = await loadEngine({ threads: Number(threads) });
const unet = await UnetBenchmark.create(engine, config, workload);
const prediction = [...(await unet.prediction())];
engine.startProfile();
await unet.run();
const operations = await engine.takeProfile();
await serve(
  {
    kernels: engine.kernelClass,
    prediction,
    flops: operations.reduce((sum, { flops }) => sum + flops, 0),
    ...(workload.mode === 'full' ? { gradientNorms: await unet.gradientNorms(checked) } : {}),
  },
  () => unet.run(),
);
