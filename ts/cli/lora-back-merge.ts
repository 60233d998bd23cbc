import type { Command } from 'commander';
import type { Context } from './command.ts';
import { addOutputOptions, type LoraOutput } from './lora-format.ts';
import { describeLost } from './lora-lost.ts';
import { parseAdapter, parseCount, parseShare } from './parse.ts';

interface BackMergeOptions extends LoraOutput {
  readonly rank: number;
  readonly energy?: number;
}

/** `potstill lora back-merge FILE:WEIGHT … --rank N --out PATH` */
export function configureBackMerge(command: Command, context: Context): void {
  addOutputOptions(command)
    .argument('<path:weight...>', 'adapters with their weights; 1 where none is given')
    .description(
      'Writes what adapters together do to their model as one LoRA of few ranks: as if they were merged into it and the\n' +
        'difference taken, but without the rounding of its weights. Adapters of every kind; DoRAs need --model.',
    )
    .requiredOption('--rank <count>', 'at most so many', parseCount)
    .option('--energy <share>', 'as few as keep this share of the squared norm, e.g. 0.99', parseShare)
    .action(async (paths: readonly string[], { out, rank, energy, ...format }: BackMergeOptions) => {
      const { backMergeAdapters } = await import('../adapter/index.ts');
      const summands = paths.map(parseAdapter).map(({ file: path, weight }) => ({ path, weight }));
      const layers = await backMergeAdapters(summands, out, { rank, energy }, format, context.signal);
      context.result({ out, summands, layers }, () => describeLost(out, layers));
    });
}
