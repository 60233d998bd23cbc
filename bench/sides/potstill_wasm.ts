/** An operation by the addon or by the WASM module, on one thread: `potstill_wasm.ts native|wasm NAME`. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DiskFiles } from '../../ts/cache/disk-files.ts';
import { loadEngine, Tensor, Unet, unwrap } from '../../ts/native/index.ts';
import { loadWasm } from '../../ts/native/load-wasm.ts';
import { serve } from '../lib/serve.ts';

/** What is used here of the module that computes. */
interface Module {
  kernelClass(): string;
  readonly Workload: new (name: string) => { run(): void; values(): Float32Array };
  readonly Unet: new (
    files: DiskFiles,
    model: string,
  ) => {
    forward(
      latents: Float32Array,
      side: number,
      timestep: number,
      hiddenStates: Float32Array,
      tokens: number,
    ): Float32Array;
  };
}

/** Something to time. */
interface Work {
  readonly kernels: string;
  /** Runs it once; gives the seconds and what was computed. */
  run(): Promise<{ seconds: number; values: Float32Array }>;
}

const MODEL = join(import.meta.dirname, '../../configs/demo/base');
const UNET = 'demo-unet';
const [CHANNELS, SIDE, TOKENS, TIMESTEP] = [4, 16, 77, 500];

/** Numbers between −1 and 1, the same everywhere. */
function uniform(count: number, seed: number): Float32Array {
  let state = Math.imul(seed, 0x9e3779b9) | 1;
  return Float32Array.from({ length: count }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 8) / 2 ** 23 - 1;
  });
}

const inputs = (width: number) => ({
  latents: uniform(CHANNELS * SIDE * SIDE, 1),
  text: uniform(TOKENS * width, 2),
});

async function timed(compute: () => Promise<Float32Array> | Float32Array): ReturnType<Work['run']> {
  const start = performance.now();
  const values = await compute();
  return { seconds: (performance.now() - start) / 1000, values };
}

async function native(name: string): Promise<Work> {
  const engine = await loadEngine({ threads: 1 });
  const kernels = engine.kernelClass;
  if (name !== UNET) {
    const run = async () => {
      const { values, seconds } = unwrap(await engine.native.runWorkload(name, 1));
      return { values, seconds: seconds[0] ?? Number.NaN };
    };
    return { kernels, run };
  }
  const unet = await Unet.open(engine, join(MODEL, 'unet'));
  const { latents, text } = inputs(unet.textWidth);
  const sample = Tensor.fromArray(engine, latents, [1, CHANNELS, SIDE, SIDE]);
  const encoderHiddenStates = Tensor.fromArray(engine, text, [1, TOKENS, unet.textWidth]);
  const timesteps = Float64Array.of(TIMESTEP);
  const run = () => timed(() => unet.forward({ sample, timesteps, encoderHiddenStates }).outputs.prediction.toArray());
  return { kernels, run };
}

async function wasm(name: string): Promise<Work> {
  const module = await loadWasm<Module>('wasm-compute');
  const kernels = module.kernelClass();
  if (name !== UNET) {
    const workload = new module.Workload(name);
    const run = async () => {
      const { seconds } = await timed(() => {
        workload.run();
        return new Float32Array();
      });
      return { seconds, values: workload.values() };
    };
    return { kernels, run };
  }
  const config = JSON.parse(readFileSync(join(MODEL, 'unet/config.json'), 'utf8')) as { cross_attention_dim: number };
  const unet = new module.Unet(new DiskFiles(), MODEL);
  const { latents, text } = inputs(config.cross_attention_dim);
  return { kernels, run: () => timed(() => unet.forward(latents, SIDE, TIMESTEP, text, TOKENS)) };
}

const [backend, name = ''] = process.argv.slice(2);
const work = await (backend === 'wasm' ? wasm(name) : native(name));
const { values } = await work.run();
// The bits: neither side has a fused multiply-add, so that there is nothing to tolerate.
const digest = createHash('sha256').update(values).digest('hex');
await serve({ kernels: work.kernels, digest }, async () => (await work.run()).seconds);
