import type { Command } from 'commander';
import type { ResizedLayer } from '../adapter/index.ts';
import { inputError } from '../errors.ts';
import type { Context } from './command.ts';
import { addOutputOptions, type LoraOutput } from './lora-format.ts';
import { parseCount, parseShare } from './parse.ts';

interface ResizeOptions extends LoraOutput {
  readonly rank?: number;
  readonly energy?: number;
}

/** Layers shown in the text: those that lost most. */
const MOST_LAYERS = 5;

/** `potstill lora resize PATH --rank N --out PATH` */
export function configureResize(command: Command, context: Context): void {
  addOutputOptions(command)
    .argument('<path>', "a .safetensors file, or a peft adapter's folder")
    .description(
      'Writes the best approximation of every layer with fewer ranks, and what each lost. Exact: no approximation of that\n' +
        'rank is closer. With --rank and --energy, the smaller of both.',
    )
    .option('--rank <count>', 'at most so many', parseCount)
    .option('--energy <share>', 'as few as keep this share of the squared norm, e.g. 0.99', parseShare)
    .action(async (path: string, { out, rank, energy, ...format }: ResizeOptions) => {
      if (rank === undefined && energy === undefined) {
        throw inputError('ERR_USAGE', 'neither --rank nor --energy is given', {
          remedy: 'Give the rank to keep (--rank 16), the share of energy (--energy 0.99), or both.',
        });
      }
      const { resizeAdapter } = await import('../adapter/index.ts');
      const layers = await resizeAdapter(path, out, { rank, energy }, format);
      context.result({ out, layers }, () => text(out, layers));
    });
}

function text(out: string, layers: readonly ResizedLayer[]): string {
  const most = [...layers].sort((a, b) => b.lost - a.lost).slice(0, MOST_LAYERS);
  const ranks = (which: 'from' | 'to'): number => layers.reduce((sum, layer) => sum + layer[which], 0);
  return [
    out,
    `${layers.length} layers, ranks ${ranks('from')} to ${ranks('to')} in all; lost most, as a share of the norm:`,
    ...most.map(({ name, from, to, lost }) => `  ${(100 * lost).toPrecision(3)} %  ${name}, rank ${from} to ${to}`),
  ].join('\n');
}
