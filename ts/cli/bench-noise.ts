import type { Command } from 'commander';
import { describeMeasurement } from './bench-output.ts';
import type { Context } from './command.ts';
import { parseCount } from './parse.ts';

interface NoiseOptions {
  readonly iterations: number;
  readonly threads?: number;
}

/** `potstill bench noise` */
export function configureNoise(command: Command, context: Context): void {
  command
    .description("Times the noise of 64 pictures' latents: torch's generator and potstill's own.")
    .option('--iterations <n>', 'how often, after one that does not count', parseCount, 10)
    .option('--threads <n>', 'threads to compute with (default: all)', parseCount)
    .action(async ({ iterations, threads }: NoiseOptions) => {
      const { loadEngine } = await import('../native/index.ts');
      const { drawNoise, measure } = await import('../bench/index.ts');
      const engine = await loadEngine({ threads });
      const options = { iterations, signal: context.signal };
      const torch = await measure(engine, () => drawNoise(engine, 'torch'), options);
      const philox = await measure(engine, () => drawNoise(engine, 'philox'), options);
      context.result({ torch, philox }, () =>
        [describeMeasurement('torch', torch), describeMeasurement('philox', philox)].join('\n'),
      );
    });
}
