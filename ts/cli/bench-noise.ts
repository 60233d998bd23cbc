import type { Command } from 'commander';
import type { DeviceName } from '../device.ts';
import { describeMeasurement } from './bench-output.ts';
import type { Context } from './command.ts';
import { deviceOption, openEngine } from './device.ts';
import { parseCount } from './parse.ts';

interface NoiseOptions {
  readonly iterations: number;
  readonly threads?: number;
  readonly device: DeviceName;
}

/** `potstill bench noise` */
export function configureNoise(command: Command, context: Context): void {
  command
    .description("Times the noise of 64 pictures' latents: torch's generator and potstill's own.")
    .option('--iterations <n>', 'how often, after one that does not count', parseCount, 10)
    .option('--threads <n>', 'threads to compute with (default: all)', parseCount)
    .addOption(deviceOption())
    .action(async ({ iterations, threads, device }: NoiseOptions) => {
      const { drawNoise, measure } = await import('../bench/index.ts');
      const engine = await openEngine({ device, threads }, context);
      const options = { iterations, signal: context.signal };
      const torch = await measure(engine, () => drawNoise(engine, 'torch'), options);
      const philox = await measure(engine, () => drawNoise(engine, 'philox'), options);
      context.result({ torch, philox }, () =>
        [describeMeasurement('torch', torch), describeMeasurement('philox', philox)].join('\n'),
      );
    });
}
