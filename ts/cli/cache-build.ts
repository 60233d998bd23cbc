import { type Command, Option } from 'commander';
import type { BuiltCache } from '../cache/index.ts';
import type { Context } from './command.ts';
import { formatSeconds } from './format.ts';
import { notBuilt } from './not-built.ts';
import { setOption } from './set-option.ts';

interface BuildOptions {
  readonly only?: string;
  readonly set: readonly string[];
  readonly shard?: string;
  readonly pairs?: string;
}

/** `potstill cache build RECIPE` */
export function configureBuild(command: Command, context: Context): void {
  command
    .argument('<recipe>', 'a recipe')
    .description(
      "Builds what is missing of a recipe's cache: latents, text, every teacher. Resumes after an interruption.",
    )
    .option('--only <part>', 'build one part alone: latents, text, or the id of a teacher')
    .addOption(setOption())
    .addOption(new Option('--shard <i/n>').hideHelp())
    .addOption(new Option('--pairs [count]').hideHelp())
    .action(async (file: string, { only, set, shard, pairs }: BuildOptions) => {
      if (shard !== undefined) throw notBuilt('--shard');
      if (pairs !== undefined) throw notBuilt('--pairs');
      const [{ loadRecipe }, { buildCache }] = await Promise.all([
        import('../recipe/index.ts'),
        import('../cache/index.ts'),
      ]);
      const start = performance.now();
      const { recipe } = await loadRecipe(file, { set });
      const built = await buildCache(recipe, { only, progress: context.progress, signal: context.signal });
      const seconds = (performance.now() - start) / 1000;
      context.result({ ok: true, dir: built.plans.dir, components: built.components, seconds }, () =>
        format(built, seconds),
      );
    });
}

function format({ plans, components }: BuiltCache, seconds: number): string {
  const lines = components.map(({ name, records, computed }) => {
    const what =
      computed === 0 ? 'complete already' : computed === records ? 'built' : `${computed} built, the rest kept`;
    return `  ${name}: ${records} records, ${what}`;
  });
  return [`${plans.dir}: sealed in ${formatSeconds(seconds)}`, ...lines].join('\n');
}
