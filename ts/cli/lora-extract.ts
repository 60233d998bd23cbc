import { type Command, Option } from 'commander';
import { DIALECTS } from '../adapter/index.ts';
import type { Context } from './command.ts';
import type { LoraOutput } from './lora-format.ts';
import { describeLost } from './lora-lost.ts';
import { modelFolder } from './model-folder.ts';
import { parseCount, parseShare } from './parse.ts';

interface ExtractOptions extends Omit<LoraOutput, 'model'> {
  readonly base: string;
  readonly tuned: string;
  readonly rank: number;
  readonly energy?: number;
}

/** Names shown in the text of what is left out. */
const MOST_NAMES = 5;

/** `potstill lora extract --base MODEL --tuned MODEL --rank N --out PATH` */
export function configureExtract(command: Command, context: Context): void {
  command
    .description(
      'Writes the LoRA that leads from one model to another, layer by layer: the best product of few ranks for what\n' +
        'the weights differ by. Layers that are equal get none; norms, biases and embeddings have no place in it.',
    )
    .requiredOption('--base <model>', 'the model that the LoRA will be for')
    .requiredOption('--tuned <model>', 'the model that it is to lead to')
    .requiredOption('--rank <count>', 'at most so many', parseCount)
    .option('--energy <share>', 'as few as keep this share of the squared norm, e.g. 0.99', parseShare)
    .requiredOption('--out <path>', 'where to write; nothing may be there yet')
    .addOption(new Option('--dialect <name>', 'names and conventions').choices(DIALECTS).default('kohya'))
    .addOption(new Option('--dtype <name>', 'of its tensors').choices(['f32', 'f16', 'bf16']).default('f16'))
    .option('--title <text>', "the title in the file's metadata")
    .action(async ({ base, tuned, out, rank, energy, ...format }: ExtractOptions) => {
      const models = { base: await modelFolder(base, ['unet']), tuned: await modelFolder(tuned, ['unet']) };
      const { requireModelMemory } = await import('../machine/index.ts');
      await requireModelMemory(Object.entries(models).map(([what, model]) => ({ model, part: 'unet' as const, what })));
      const { extractAdapter } = await import('../adapter/index.ts');
      const { layers, leftOut } = await extractAdapter(models, out, { rank, energy }, format, context.signal);
      context.result({ out, layers, leftOut }, () =>
        [
          describeLost(out, layers),
          ...(leftOut.length === 0 ? [] : [`left out, for a LoRA has no place for them: ${named(leftOut)}`]),
        ].join('\n'),
      );
    });
}

function named(names: readonly string[]): string {
  const more = names.length - MOST_NAMES;
  return `${names.slice(0, MOST_NAMES).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}
