import { type Command, Option } from 'commander';
import type { Architecture } from '../bench/index.ts';
import type { DeviceName } from '../device.ts';
import { inputError } from '../errors.ts';
import type { Precision } from '../native/index.ts';
import { describeMeasurement } from './bench-output.ts';
import type { Context } from './command.ts';
import { deviceOption, openEngine } from './device.ts';
import { dtypeOption, kernelsOf, noteEmulation } from './dtype-option.ts';
import { parseCount } from './parse.ts';

interface UnetOptions {
  readonly arch: Architecture;
  readonly size: number;
  readonly batch: number;
  readonly mode: 'forward' | 'lora' | 'full';
  readonly recompute?: boolean;
  readonly iterations: number;
  readonly threads?: number;
  readonly profile?: boolean;
  readonly dtype: Precision;
  readonly device: DeviceName;
}

/** Sides of pictures: latents are an eighth, and the UNet halves them three times at most. */
const SIDES = 64;

/** `potstill bench unet` */
export function configureUnet(command: Command, context: Context): void {
  command
    .description(
      'Times a UNet of full size with random weights: forward, or forward and backward by all weights (full) or by a LoRA of rank 16 on attention (lora), without an optimizer.',
    )
    .addOption(new Option('--arch <name>', 'architecture').choices(['sd15', 'sdxl']).default('sd15'))
    .option('--size <pixels>', 'side of the picture, a multiple of 64', parseCount, 512)
    .option('--batch <n>', 'pictures at once', parseCount, 1)
    .addOption(
      new Option('--mode <name>', 'what one iteration is').choices(['forward', 'full', 'lora']).default('forward'),
    )
    .option('--recompute', 'with --mode full or lora: keep no activations; the gradients are the same')
    .option('--iterations <n>', 'how often, after one that does not count', parseCount, 3)
    .option('--threads <n>', 'threads to compute with (default: all)', parseCount)
    .option('--profile', 'where the time goes, operation by operation, in one more iteration')
    .addOption(dtypeOption())
    .addOption(deviceOption())
    .action(async (options: UnetOptions) => {
      const { arch, size, batch, mode, recompute = false, dtype, iterations, profile = false } = options;
      if (size % SIDES !== 0) {
        throw inputError('ERR_USAGE', `${size} is no multiple of ${SIDES}`, {
          where: '--size',
          remedy: 'Such as 512.',
        });
      }
      if (recompute && mode === 'forward') {
        throw inputError('ERR_USAGE', 'a forward pass keeps no activations to recompute', {
          where: '--recompute',
          remedy: 'Give --mode full or lora as well.',
        });
      }
      if (dtype === 'bf16' && mode === 'full') {
        throw inputError('ERR_USAGE', 'weights are trained in f32; in bf16 they are frozen', {
          where: '--dtype bf16',
          remedy: 'Give --mode forward or lora, or --dtype f32.',
        });
      }
      const { UNETS, measure, requireUnetMemory, UnetBenchmark } = await import('../bench/index.ts');
      const workload = { size, batch, mode, dtype, recompute };
      const engine = await openEngine(options, context);
      await requireUnetMemory(arch, workload, { device: engine.device });
      const unet = await UnetBenchmark.create(engine, UNETS[arch], workload);
      noteEmulation(engine, dtype, context.progress);
      const kernels = kernelsOf(engine, dtype);
      const result = await measure(engine, () => unet.run(), { iterations, profile, kernels, signal: context.signal });
      context.result(result, () =>
        describeMeasurement(`${arch} ${size}x${size}, batch ${batch}, ${mode}, ${dtype}`, result),
      );
    });
}
