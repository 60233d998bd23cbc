import { type Command, Option } from 'commander';
import type { VaeMode } from '../bench/index.ts';
import type { DeviceName } from '../device.ts';
import { inputError } from '../errors.ts';
import { describeMeasurement } from './bench-output.ts';
import type { Context } from './command.ts';
import { deviceOption, openEngine } from './device.ts';
import { parseCount } from './parse.ts';
import { requireBuiltDtype } from './sampling-options.ts';

interface VaeOptions {
  readonly size: number;
  readonly batch: number;
  readonly mode: VaeMode;
  readonly iterations: number;
  readonly threads?: number;
  readonly profile?: boolean;
  readonly dtype?: string;
  readonly device: DeviceName;
}

/** Pixels to a latent. */
const SIDES = 8;

/** `potstill bench vae` */
export function configureVae(command: Command, context: Context): void {
  command
    .description('Times the VAE of SD1.5, which is that of SDXL but for a factor, in full size with random weights.')
    .option('--size <pixels>', 'side of the picture, a multiple of 8', parseCount, 512)
    .option('--batch <n>', 'pictures at once', parseCount, 1)
    .addOption(
      new Option('--mode <name>', 'latents to a picture, or a picture to latents')
        .choices(['decode', 'encode'])
        .default('decode'),
    )
    .option('--iterations <n>', 'how often, after one that does not count', parseCount, 3)
    .option('--threads <n>', 'threads to compute with (default: all)', parseCount)
    .addOption(deviceOption())
    .option('--profile', 'where the time goes, operation by operation, in one more iteration')
    .addOption(new Option('--dtype <type>').hideHelp())
    .action(async (options: VaeOptions) => {
      const { size, batch, mode, iterations, profile = false } = options;
      requireBuiltDtype(options);
      if (size % SIDES !== 0) {
        throw inputError('ERR_USAGE', `${size} is no multiple of ${SIDES}`, {
          where: '--size',
          remedy: 'Such as 512.',
        });
      }
      const { measure, requireVaeMemory, VAE, VaeBenchmark } = await import('../bench/index.ts');
      const workload = { size, batch, mode };
      const engine = await openEngine(options, context);
      await requireVaeMemory(workload, { device: engine.device });
      const vae = await VaeBenchmark.create(engine, VAE, workload);
      const result = await measure(engine, () => vae.run(), { iterations, profile, signal: context.signal });
      context.result(result, () => describeMeasurement(`VAE ${size}x${size}, batch ${batch}, ${mode}`, result));
    });
}
