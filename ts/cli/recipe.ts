import type { Command } from 'commander';
import type { Context } from './command.ts';
import { setOption } from './set-option.ts';

interface RecipeOptions {
  readonly set: readonly string[];
}

/** `potstill recipe check|print|schema` */
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
