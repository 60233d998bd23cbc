import { type Command, Option } from 'commander';
import { inputError } from '../errors.ts';
import type { Context } from './command.ts';
import { formatSeconds } from './format.ts';
import { modelFolder, vaeFolder } from './model-folder.ts';
import { notBuilt } from './not-built.ts';
import { collect, parseNatural, parseSeeds, parseSize } from './parse.ts';
import { requireOutFolder } from './paths.ts';
import { addSamplingOptions, builtSampler, type SamplingOptions } from './sampling-options.ts';

interface SampleOptions extends SamplingOptions {
  readonly model: string;
  readonly vae?: string;
  readonly prompt: readonly string[];
  readonly negative: string;
  readonly clipSkip: number;
  readonly size?: { readonly width: number; readonly height: number };
  readonly seed: readonly bigint[];
  readonly baseSteps?: string;
  readonly grid?: boolean;
  readonly out: string;
}

/** `potstill sample`: pictures of prompts, as PNG files that carry their settings. */
export function configure(command: Command, context: Context): void {
  command
    .requiredOption('--model <folder>', "a diffusers model's folder")
    .option('--vae <folder>', "a VAE in place of the model's: its folder, or that of a model")
    .option('--prompt <text>', 'what to show; several may be given', collect, [])
    .option('--negative <text>', 'what guidance leads away from', '')
    .option('--clip-skip <n>', 'layers of the text encoder to leave out', parseNatural, 0)
    .option('--size <WxH>', 'in pixels, multiples of 8 (default: what the model was made for)', parseSize)
    .addOption(
      new Option('--seed <n,…>', 'a picture of each prompt for each of them').argParser(parseSeeds).default([0n], '0'),
    )
    .option('--grid', 'also write grid.png: a row per prompt, a column per seed')
    .option('--out <folder>', 'where to write the pictures', 'samples')
    .addOption(new Option('--base-steps <k>').hideHelp());
  addSamplingOptions(command).action(async (options: SampleOptions) => {
    if (options.baseSteps !== undefined) throw notBuilt('--base-steps');
    if (options.prompt.length === 0) {
      throw inputError('ERR_USAGE', "required option '--prompt <text>' not specified", {
        remedy: 'Say what to show, for example --prompt "a red apple".',
      });
    }
    const { kind, spacing } = builtSampler(options);
    const ownVae = options.vae === undefined ? (['vae'] as const) : [];
    const folder = await modelFolder(options.model, ['unet', 'tokenizer', 'text_encoder', ...ownVae]);
    const vae = options.vae === undefined ? undefined : await vaeFolder(options.vae);
    await requireOutFolder(options.out);
    const { loadEngine } = await import('../native/index.ts');
    const { samplePictures } = await import('../sampling/sample-pictures.ts');
    const { prompt: prompts, negative, seed: seeds, steps, guidance, clipSkip, size, grid = false, out } = options;
    const result = await samplePictures(await loadEngine(), {
      ...{ folder, vae, prompts, negative, seeds, sampler: kind, spacing, steps, guidance, clipSkip, size, grid, out },
      ...{ progress: context.progress, signal: context.signal },
    });
    context.result(result, () =>
      [
        ...result.images.map(({ file, seed, seconds }) => `${file}  seed ${seed}  ${formatSeconds(seconds)}`),
        ...(result.grid === undefined ? [] : [result.grid]),
      ].join('\n'),
    );
  });
}
