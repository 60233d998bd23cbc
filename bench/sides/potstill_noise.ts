/** potstill's noise: `potstill_noise.ts THREADS GENERATOR`. */
import { drawNoise, NOISE_SEED, NOISE_SHAPE } from '../../ts/bench/index.ts';
import { loadEngine, type NoiseGenerator, noise } from '../../ts/native/index.ts';
import { serve } from '../lib/serve.ts';

const [threads, generator] = process.argv.slice(2) as [string, NoiseGenerator];
const CHECKED = 1000;

const engine = await loadEngine({ threads: Number(threads) });
const values = await noise(engine, { generator, seeds: [NOISE_SEED], shape: NOISE_SHAPE }).toArray();
const first = [...values.slice(0, CHECKED)];
await serve({ kernels: engine.kernelClass, first }, () => drawNoise(engine, generator));
