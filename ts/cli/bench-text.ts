import { type Command, Option } from 'commander';
import type { Architecture } from '../bench/index.ts';
import type { DeviceName } from '../device.ts';
import { describeMeasurement } from './bench-output.ts';
import type { Context } from './command.ts';
import { deviceOption, openEngine } from './device.ts';
import { parseCount } from './parse.ts';
import { requireBuiltDtype } from './sampling-options.ts';

interface TextOptions {
  readonly arch: Architecture;
  readonly batch: number;
  readonly iterations: number;
  readonly threads?: number;
  readonly profile?: boolean;
  readonly dtype?: string;
  readonly device: DeviceName;
}

/** `potstill bench text` */
export function configureText(command: Command, context: Context): void {
  command
    .description(
      "Times text encoders of full size with random weights: SD1.5's CLIP-L, or SDXL's two (CLIP-L and OpenCLIP bigG).",
    )
    .addOption(new Option('--arch <name>', 'architecture').choices(['sd15', 'sdxl']).default('sd15'))
    .option('--batch <n>', 'prompts at once, of 77 tokens each', parseCount, 2)
    .option('--iterations <n>', 'how often, after one that does not count', parseCount, 10)
    .option('--threads <n>', 'threads to compute with (default: all)', parseCount)
    .addOption(deviceOption())
    .option('--profile', 'where the time goes, operation by operation, in one more iteration')
    .addOption(new Option('--dtype <type>').hideHelp())
    .action(async (options: TextOptions) => {
      const { arch, batch, iterations, profile = false } = options;
      requireBuiltDtype(options);
      const { measure, requireTextMemory, TEXT_ENCODERS, TextBenchmark } = await import('../bench/index.ts');
      const engine = await openEngine(options, context);
      await requireTextMemory(arch, { batch }, { device: engine.device });
      const text = await TextBenchmark.create(engine, TEXT_ENCODERS[arch], { batch });
      const result = await measure(engine, () => text.run(), { iterations, profile, signal: context.signal });
      context.result(result, () => describeMeasurement(`text encoders of ${arch}, batch ${batch}`, result));
    });
}
