/** potstill's text encoders: `potstill_text.ts THREADS WORKLOAD`, the workload as JSON. */
import { TextBenchmark } from '../../ts/bench/index.ts';
import { loadEngine } from '../../ts/native/index.ts';
import { counted, packed, serve } from '../lib/serve.ts';

const [threads, json = ''] = process.argv.slice(2);
const { encoders, batch }: { encoders: { config: object }[]; batch: number } = JSON.parse(json);
const configs = encoders.map(({ config }) => config);

const engine = await loadEngine({ threads: Number(threads) });
const text = await TextBenchmark.create(engine, configs, { batch });
const { value, flops } = await counted(engine, () => text.output());
await serve({ kernels: engine.kernelClass, output: packed(value), flops }, () => text.run());
