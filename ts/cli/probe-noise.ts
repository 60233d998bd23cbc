import { type Command, Option } from 'commander';
import type { DeviceName } from '../device.ts';
import type { NoiseGenerator } from '../native/index.ts';
import type { Context } from './command.ts';
import { deviceOption, openEngine } from './device.ts';
import { parseSeed, parseShape } from './parse.ts';
import { requireOutFile } from './paths.ts';
import { writeProbe } from './probe-output.ts';

interface NoiseOptions {
  readonly seed: bigint;
  readonly shape: readonly number[];
  readonly generator: NoiseGenerator;
  readonly device: DeviceName;
  readonly out: string;
}

/** `potstill probe noise` */
export function configureNoise(command: Command, context: Context): void {
  command
    .description('Writes noise, f32, of a seed: torch gives the bits of torch.randn on a CPU with AVX2.')
    .requiredOption('--seed <n>', '0 to 2^64 − 1', parseSeed)
    .requiredOption('--shape <sizes>', 'such as 4,64,64', parseShape)
    .addOption(deviceOption())
    .addOption(
      new Option('--generator <name>', "torch's, or potstill's own").choices(['torch', 'philox']).default('philox'),
    )
    .requiredOption('--out <file>', 'safetensors file to write')
    .action(async ({ seed, shape, generator, device, out }: NoiseOptions) => {
      await requireOutFile(out);
      const { noise } = await import('../native/index.ts');
      const rows = noise(await openEngine({ device }, context), { generator, seeds: [seed], shape });
      await writeProbe(out, { noise: rows.reshape(shape) }, context);
    });
}
