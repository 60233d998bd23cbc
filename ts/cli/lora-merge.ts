import { type Command, InvalidArgumentError } from 'commander';
import type { Context } from './command.ts';
import { addOutputOptions, type LoraOutput } from './lora-format.ts';
import { parseAdapter, parseFinite } from './parse.ts';

interface BlockWeight {
  readonly block: string;
  readonly weight: number;
}

interface MergeOptions extends LoraOutput {
  readonly block: readonly BlockWeight[];
}

/** `potstill lora merge FILE:WEIGHT FILE:WEIGHT … --out PATH` */
export function configureMerge(command: Command, context: Context): void {
  addOutputOptions(command)
    .argument('<path:weight...>', 'adapters with their weights; 1 where none is given')
    .description(
      'Writes one adapter that does what the sum of all does. LoRAs stay LoRAs, whose ranks add up, exactly; a layer with\n' +
        'another kind among them becomes a whole difference. `lora resize` gives LoRAs fewer ranks again.',
    )
    .option(
      '--block <name=weight>',
      'a further factor of layers whose names start so, e.g. unet.up_blocks.1=0.5',
      block,
      [],
    )
    .action(async (paths: readonly string[], { out, block: blocks, ...format }: MergeOptions) => {
      const { mergeAdapters } = await import('../adapter/index.ts');
      const summands = paths.map(parseAdapter).map(({ file: path, weight }) => ({ path, weight }));
      const files = await mergeAdapters(summands, blocks, out, format);
      context.result({ out, files, summands, blocks }, () => files.join('\n'));
    });
}

function block(text: string, previous: readonly BlockWeight[]): readonly BlockWeight[] {
  const [name = '', weight = '', ...rest] = text.split('=');
  if (name === '' || rest.length > 0) throw new InvalidArgumentError('It must be NAME=WEIGHT.');
  return [...previous, { block: name, weight: parseFinite(weight) }];
}
