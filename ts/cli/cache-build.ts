import { type Command, Option } from 'commander';
import type { BuiltCache, Part } from '../cache/index.ts';
import type { DeviceName } from '../device.ts';
import type { Context } from './command.ts';
import { recipeDeviceOption, withDevice } from './device.ts';
import { formatSeconds } from './format.ts';
import { notBuilt } from './not-built.ts';
import { setOption } from './set-option.ts';

interface BuildOptions {
  readonly only?: string;
  readonly device?: DeviceName;
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
    .addOption(recipeDeviceOption())
    .addOption(setOption())
    .option(
      '--shard <i/n>',
      'build part i of n, from 1 on; without it, what a Slurm array or a Kubernetes Indexed Job says; join with cache seal',
    )
    .addOption(new Option('--pairs [count]').hideHelp())
    .action(async (file: string, { only, device, set, shard, pairs }: BuildOptions) => {
      if (pairs !== undefined) throw notBuilt('--pairs');
      const [{ loadRecipe }, { buildCache, parsePart, partOfEnvironment }] = await Promise.all([
        import('../recipe/index.ts'),
        import('../cache/index.ts'),
      ]);
      const given = shard === undefined ? partOfEnvironment(process.env) : parsePart(shard);
      const part = given?.count === 1 ? undefined : given;
      if (part !== undefined) context.progress.log(`part ${part.index + 1} of ${part.count} (${part.source})`);
      const start = performance.now();
      const { recipe } = await loadRecipe(file, { set: withDevice(set, device) });
      const built = await buildCache(recipe, { only, part, progress: context.progress, signal: context.signal });
      const seconds = (performance.now() - start) / 1000;
      const { components } = built;
      const of = part === undefined ? {} : { part: { index: part.index + 1, count: part.count } };
      context.result({ ok: true, dir: built.plans.dir, ...of, components, seconds }, () =>
        part === undefined ? format(built, seconds) : formatPart(built, part, seconds),
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

function formatPart({ plans, components }: BuiltCache, { index, count }: Part, seconds: number): string {
  const lines = components.map(({ name, records, computed, missing, sealed }) => {
    const others = sealed ? 'sealed' : missing === 0 ? 'all there now' : `${missing} of other parts are not there yet`;
    return `  ${name}: ${records} records, ${computed} built, ${others}`;
  });
  return [
    `${plans.dir}: part ${index + 1} of ${count} built in ${formatSeconds(seconds)}`,
    ...lines,
    `  when all parts have ended: potstill cache seal ${plans.dir}`,
  ].join('\n');
}
