import type { Command } from 'commander';
import type { ImportedRecipe } from '../recipe/index.ts';
import type { Context } from './command.ts';
import { setOption } from './set-option.ts';

interface RecipeOptions {
  readonly set: readonly string[];
}

interface ImportOptions {
  readonly out?: string;
  readonly base?: string;
}

/** `potstill recipe check|print|schema|import` */
export function configure(command: Command, context: Context): void {
  command
    .command('check')
    .argument('<file>', 'a recipe')
    .description('Checks a recipe: every key and value, with the place and what may have been meant.')
    .addOption(setOption())
    .action(async (file: string, options: RecipeOptions) => {
      const { loadRecipe } = await import('../recipe/index.ts');
      const { recipe } = await loadRecipe(file, options);
      context.result(
        { ok: true, file, name: recipe.name },
        () => `${file}: ok (${recipe.name}, method ${recipe.method.id})`,
      );
    });

  command
    .command('print')
    .argument('<file>', 'a recipe')
    .description(
      'Prints the recipe with every default filled in and every path resolved, and where each value comes from.',
    )
    .addOption(setOption())
    .action(async (file: string, options: RecipeOptions) => {
      const { loadRecipe } = await import('../recipe/index.ts');
      const { recipe, origins } = await loadRecipe(file, options);
      context.result({ recipe, origins }, () => formatOrigins(recipe, origins));
    });

  command
    .command('schema')
    .description('Prints the JSON Schema of recipes, for editors.')
    .action(async () => {
      const { recipeJsonSchema } = await import('../recipe/index.ts');
      const schema = recipeJsonSchema();
      context.result(schema, () => JSON.stringify(schema, null, 2));
    });

  command
    .command('import')
    .argument(
      '<files...>',
      "a training's config, the configs of its teachers' caches, or both; or a config of OneTrainer",
    )
    .description(
      'Makes a recipe of the JSON configs of a multi-teacher SDXL distillation (distill.json and one cache_*.json for each\n' +
        'teacher), or of a OneTrainer config. What a recipe says otherwise, or cannot say, stands in comments above it.',
    )
    .option('--out <file>', 'where to write the recipe; its paths are relative to that. It is printed when left out')
    .option('--base <folder>', "folder that the configs' relative paths start at", '.')
    .action(async (files: string[], { out, base }: ImportOptions) => {
      const [{ importRecipe, printRecipe }, { requireOutFile }, { writeAtomic }] = await Promise.all([
        import('../recipe/index.ts'),
        import('./paths.ts'),
        import('../write-atomic.ts'),
      ]);
      if (out !== undefined) await requireOutFile(out);
      const imported = await importRecipe(files, { base, out });
      const text = printRecipe(imported, files);
      if (out !== undefined) await writeAtomic(out, text);
      context.result({ ok: true, ...(out === undefined ? {} : { out }), ...imported }, () =>
        out === undefined ? text : formatNotes(out, imported),
      );
    });
}

/** What was written, and what to look at before it runs. */
function formatNotes(out: string, { notes }: ImportedRecipe): string {
  const missing = notes.filter(({ code }) => code === 'fill-in').length;
  const first = missing === 0 ? out : `${out}: ${missing} ${missing === 1 ? 'value is' : 'values are'} to be filled in`;
  return [first, ...notes.map(({ code, path, what }) => `  ${code}: ${path}: ${what}`)].join('\n');
}

/** One value a line, in columns: path, value, origin. */
function formatOrigins(recipe: object, origins: Readonly<Record<string, string>>): string {
  const rows = Object.entries(origins).map(([path, origin]) => ({
    path,
    value: JSON.stringify(valueAt(recipe, path)),
    origin,
  }));
  const widest = Math.max(...rows.map(({ path, value }) => path.length + value.length));
  return rows
    .map(
      ({ path, value, origin }) =>
        `${path} = ${value}${' '.repeat(widest - path.length - value.length + 2)}# ${origin}`,
    )
    .join('\n');
}

function valueAt(root: unknown, path: string): unknown {
  return path
    .split(/[.[\]]+/)
    .filter((step) => step !== '')
    .reduce<unknown>((value, step) => (value as Readonly<Record<string, unknown>>)[step], root);
}
