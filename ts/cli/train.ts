import type { Command } from 'commander';
import type { TrainResult } from '../train/train.ts';
import type { Context } from './command.ts';
import { formatSeconds } from './format.ts';
import { setOption } from './set-option.ts';

interface TrainOptions {
  readonly resume?: boolean;
  readonly set: readonly string[];
}

/** `potstill train RECIPE`: builds what is missing of the cache, verifies it, trains. */
export function configure(command: Command, context: Context): void {
  command
    .argument('<recipe>', 'a recipe')
    .option('--resume', "go on from the newest checkpoint in the run's folder")
    .addOption(setOption())
    .action(async (file: string, { resume = false, set }: TrainOptions) => {
      const { loadRecipe } = await import('../recipe/index.ts');
      const { train } = await import('../train/train.ts');
      const { recipe } = await loadRecipe(file, { set });
      const { progress, signal } = context;
      const result = await train(recipe, { resume, progress, signal });
      context.result(result, () => describe(result));
    });
}

function describe({ folder, student, step, loss, seconds, validation }: TrainResult): string {
  const lines = [`${folder}: ${step} steps in ${formatSeconds(seconds)}`];
  if (loss !== undefined) lines.push(`loss ${loss}`);
  if (validation !== undefined) lines.push(`validation loss ${validation.loss}`);
  lines.push(`student: ${student}`);
  return lines.join('\n');
}
