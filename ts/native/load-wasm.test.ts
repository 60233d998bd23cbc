import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { DiskFiles } from '../cache/disk-files.ts';
import type { Engine } from './engine.ts';
import { addon } from './load.ts';
import { loadEngine } from './load-engine.ts';
import { loadWasm } from './load-wasm.ts';
import { unwrap } from './outcome.ts';
import { Tensor } from './tensor.ts';
import { Unet } from './unet.ts';

/** What is used here of the module that computes. */
interface Module {
  kernelClass(): string;
  useKernels(name: string): boolean;
  holdWeightsUpTo(bytes: number): void;
  workloads(): string[];
  readonly Workload: new (name: string) => { run(): void; values(): Float32Array };
  readonly Unet: new (
    files: DiskFiles,
    model: string,
  ) => {
    forward(latents: Float32Array, side: number, timestep: number, text: Float32Array, tokens: number): Float32Array;
  };
}

const MODEL = join(import.meta.dirname, '../../configs/demo/base');

/** Neither has a fused multiply-add. */
describe.skipIf(!addon().kernelClasses().includes('sse'))(
  'the WASM module and the class sse compute the same bits',
  () => {
    let wasm: Module;
    let engine: Engine;

    beforeAll(async () => {
      wasm = await loadWasm<Module>('wasm-compute');
      expect(addon().useKernels('sse')).toBe(true);
      engine = await loadEngine({ threads: 2 });
    });

    it('has a class of its own', () => {
      expect(engine.kernelClass).toBe('sse');
      expect(addon().useKernels('avx2')).toBe(false); // too late: one is in use
      expect(wasm.kernelClass()).toBe('wasm');
      expect(wasm.useKernels('avx2')).toBe(false);
      expect(wasm.workloads()).toEqual(addon().workloads());
    });

    it.each(addon().workloads())('of %s', async (name) => {
      const { values } = unwrap(await engine.native.runWorkload(name, 0));
      const workload = new wasm.Workload(name);
      workload.run();
      expect(Buffer.from(workload.values().buffer).equals(Buffer.from(values.buffer))).toBe(true);
    });

    it("of a UNet's prediction, whether its weights are held or read at every use", async () => {
      const config = JSON.parse(readFileSync(join(MODEL, 'unet/config.json'), 'utf8')) as {
        cross_attention_dim: number;
      };
      const width = config.cross_attention_dim;
      const wave = (count: number) => Float32Array.from({ length: count }, (_, i) => Math.fround(Math.sin(i * 0.37)));
      const [latents, text] = [wave(4 * 8 * 8), wave(77 * width)];
      const unet = await Unet.open(engine, join(MODEL, 'unet'));
      const sample = Tensor.fromArray(engine, latents, [1, 4, 8, 8]);
      const encoderHiddenStates = Tensor.fromArray(engine, text, [1, 77, width]);
      const { outputs } = unet.forward({ sample, timesteps: Float64Array.of(500), encoderHiddenStates });
      const native = await outputs.prediction.toArray();
      using files = new DiskFiles();
      for (const held of [2 ** 30, 0]) {
        wasm.holdWeightsUpTo(held);
        expect(new wasm.Unet(files, MODEL).forward(latents, 8, 500, text, 77)).toEqual(native);
      }
    });
  },
);
