import { type Command, Option } from 'commander';
import type { DeviceName } from '../device.ts';
import { inputError } from '../errors.ts';
import type { Precision } from '../native/index.ts';
import type { Size, VaeTiling } from '../sampling/index.ts';
import type { Context } from './command.ts';
import { deviceOption, openEngine } from './device.ts';
import { dtypeOption, noteEmulation } from './dtype-option.ts';
import { formatSeconds } from './format.ts';
import { modelFolder, vaeFolder } from './model-folder.ts';
import { collect, parseCount, parseCrop, parseFinite, parseSeeds, parseSize } from './parse.ts';
import { requireAdapters, requireOutFolder } from './paths.ts';
import { addSamplingOptions, type SamplingOptions, samplingSettings } from './sampling-options.ts';

interface SampleOptions extends SamplingOptions {
  readonly model: string;
  readonly vae?: string;
  readonly prompt: readonly string[];
  readonly size?: Size;
  readonly originalSize?: Size;
  readonly crop?: { readonly left: number; readonly top: number };
  readonly targetSize?: Size;
  readonly seed: readonly bigint[];
  readonly batch: number;
  readonly base?: string;
  readonly baseSteps?: number;
  readonly baseGuidance?: number;
  readonly dtype: Precision;
  readonly vaeTiling: VaeTiling;
  readonly grid?: boolean;
  readonly device: DeviceName;
  readonly out: string;
}

/** `potstill sample`: pictures of prompts, as PNG files that carry their settings. */
export function configure(command: Command, context: Context): void {
  command
    .requiredOption('--model <path>', 'a single file or a diffusers folder')
    .option('--vae <path>', "a VAE in place of the model's: a file or a folder that has one")
    .option('--prompt <text>', 'what to show; several may be given', collect, [])
    .option('--size <WxH>', 'in pixels, multiples of 8 (default: what the model was made for)', parseSize)
    .option('--original-size <WxH>', 'SDXL: size of the picture before it was cropped (default: --size)', parseSize)
    .option('--crop <left,top>', 'SDXL: pixels cut off at the left and the top (default: 0,0)', parseCrop)
    .option('--target-size <WxH>', 'SDXL: size of the picture as it is shown (default: --size)', parseSize)
    .addOption(
      new Option('--seed <n,…>', 'a picture of each prompt for each of them').argParser(parseSeeds).default([0n], '0'),
    )
    .option('--batch <n>', 'pictures of a prompt to make at once', parseCount, 1)
    .option('--base-steps <k>', 'hybrid: the first k steps by --base, the rest by --model', parseCount)
    .option('--base <folder>', 'the model of the first steps: its UNet, with the texts of --model')
    .option('--base-guidance <g>', 'its scale of guidance (default: --guidance)', parseFinite)
    .addOption(dtypeOption())
    .addOption(
      new Option('--vae-tiling <when>', 'decode by tiles, to save memory; auto: above 1024x1024 pixels')
        .choices(['auto', 'on', 'off'])
        .default('auto'),
    )
    .option('--grid', 'also write grid.png: a row per prompt, a column per seed')
    .addOption(deviceOption())
    .option('--out <folder>', 'where to write the pictures', 'samples');
  addSamplingOptions(command, { promptSyntax: 'weighted' }).action(async (options: SampleOptions) => {
    if (options.prompt.length === 0) {
      throw inputError('ERR_USAGE', "required option '--prompt <text>' not specified", {
        remedy: 'Say what to show, for example --prompt "a red apple".',
      });
    }
    const settings = samplingSettings(options);
    const base = await baseOf(options);
    const ownVae = options.vae === undefined ? (['vae'] as const) : [];
    const folder = await modelFolder(options.model, ['unet', 'tokenizer', 'text_encoder', ...ownVae]);
    const vae = options.vae === undefined ? undefined : await vaeFolder(options.vae);
    await requireAdapters(options.lora, '--lora');
    await requireOutFolder(options.out);
    const { samplePictures } = await import('../sampling/sample-pictures.ts');
    const { prompt: prompts, seed: seeds, batch, size, dtype, vaeTiling, grid = false, out } = options;
    const { originalSize: original, crop, targetSize: target } = options;
    const engine = await openEngine(options, context);
    noteEmulation(engine, dtype, context.progress);
    const result = await samplePictures(engine, {
      ...{ ...settings, folder, vae, base, prompts, seeds, batch, size, dtype, vaeTiling, grid, out },
      ...{ sizes: { original, crop, target }, progress: context.progress, signal: context.signal },
    });
    context.result(result, () =>
      [
        ...result.images.map(({ file, seed, seconds }) => `${file}  seed ${seed}  ${formatSeconds(seconds)}`),
        ...(result.grid === undefined ? [] : [result.grid]),
      ].join('\n'),
    );
  });
}

/** Who makes the first steps: all of `--base` and `--base-steps`, or nothing of them. */
async function baseOf(
  options: SampleOptions,
): Promise<{ folder: string; steps: number; guidance: number } | undefined> {
  const { base, baseSteps, baseGuidance, steps, guidance } = options;
  if (base === undefined && baseSteps === undefined && baseGuidance === undefined) return undefined;
  if (base === undefined || baseSteps === undefined) {
    throw inputError('ERR_USAGE', 'hybrid sampling takes both --base and --base-steps', {
      remedy: 'Give the model of the first steps and their number.',
    });
  }
  if (baseSteps >= steps) {
    throw inputError('ERR_USAGE', `--base-steps ${baseSteps} leaves none of ${steps} steps to --model`, {
      where: '--base-steps',
      remedy: 'Take fewer, or more --steps.',
    });
  }
  return { folder: await modelFolder(base, ['unet']), steps: baseSteps, guidance: baseGuidance ?? guidance };
}
