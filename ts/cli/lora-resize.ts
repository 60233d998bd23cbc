import type { Command } from 'commander';
import { inputError } from '../errors.ts';
import type { Context } from './command.ts';
import { addOutputOptions, type LoraOutput } from './lora-format.ts';
import { describeLost } from './lora-lost.ts';
import { parseCount, parseShare } from './parse.ts';

interface ResizeOptions extends LoraOutput {
  readonly rank?: number;
  readonly energy?: number;
}

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
      const layers = await resizeAdapter(path, out, { rank, energy }, format, context.signal);
      context.result({ out, layers }, () => describeLost(out, layers));
    });
}
