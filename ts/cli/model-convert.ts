import { stat } from 'node:fs/promises';
import { type Command, Option } from 'commander';
import type { WeightedAdapter } from '../native/index.ts';
import type { Context } from './command.ts';
import { collect, parseAdapter } from './parse.ts';
import { requireAdapters } from './paths.ts';

interface ConvertOptions {
  readonly out: string;
  readonly to?: 'file' | 'folder';
  readonly dtype?: 'f32' | 'f16' | 'bf16';
  readonly title?: string;
  readonly vae?: string;
  readonly allow: readonly string[];
  readonly lora: readonly WeightedAdapter[];
}

/** `potstill model convert PATH --out PATH` */
export function configureConvert(command: Command, context: Context): void {
  command
    .argument('<path>', 'a single file or a diffusers folder')
    .description(
      'Writes a checkpoint in the other layout, or in the same with another dtype or VAE, or with adapters in it. What is not asked to change\n' +
        'stays the same to the bit. Every missing or unexpected key is an error.',
    )
    .requiredOption('--out <path>', 'where to write; nothing may be there yet')
    .addOption(
      new Option('--to <layout>', 'default: a file when --out ends in .safetensors, else a folder').choices([
        'file',
        'folder',
      ]),
    )
    .addOption(new Option('--dtype <name>', "default: each tensor's own").choices(['f32', 'f16', 'bf16']))
    .option('--vae <path>', "a VAE in place of the model's: a file or a folder that has one")
    .option(
      '--lora <file:weight>',
      'an adapter to lay into the weights, 1 where no weight is given; several may be given',
      (text: string, previous: readonly WeightedAdapter[]) => [...previous, parseAdapter(text)],
      [],
    )
    .option('--title <text>', "the title in a file's metadata")
    .option(
      '--allow <key>',
      "an unexpected key, or a tokenizer that isn't CLIP's, to leave out; a final * stands for the rest",
      collect,
      [],
    )
    .action(async (path: string, { out, to, dtype, title, vae, allow, lora: adapters }: ConvertOptions) => {
      const { convertModel } = await import('../model/convert.ts');
      const { progress, signal } = context;
      await requireAdapters(adapters, '--lora');
      const layout = to ?? (out.endsWith('.safetensors') ? 'file' : 'folder');
      const converted = await convertModel(path, out, {
        ...{ layout, dtype, title, vae, allow, adapters, progress, signal },
      });
      const files = await Promise.all(
        converted.files.map(async (file) => ({ path: file, bytes: (await stat(file)).size })),
      );
      context.result({ out, layout, ...converted, files }, () =>
        [
          ...files.map((file) => file.path),
          ...converted.leftOut.map((key) => `left out: ${key}`),
          ...(converted.absent.length === 0 ? [] : [`The source has no ${converted.absent.join(', no ')}.`]),
        ].join('\n'),
      );
    });
}
