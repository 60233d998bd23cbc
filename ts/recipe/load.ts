import { readFile, stat } from 'node:fs/promises';
import { inputError } from '../errors.ts';
import { MAX_RECIPE_BYTES, parseDocument, type RecipeDocument } from './document.ts';
import { type PlacedProblem, RecipeError } from './error.ts';
import { recipeJsonSchema } from './json-schema.ts';
import { applyOverride, type Override, parseOverride } from './override.ts';
import { recipeFolder, resolvePaths } from './paths.ts';
import { explainIssue, formatPath, type Problem } from './problems.ts';
import { type Recipe, recipeSchema, withHeldOutShare } from './schema.ts';

/** A recipe ready to run: defaults filled in, paths absolute. */
export type ResolvedRecipe = Recipe & { readonly output: string };

/** A recipe with what is known of where it came from. */
export interface LoadedRecipe {
  readonly recipe: ResolvedRecipe;
  /** Where each value comes from, by its path (`training.batch`): `recipe.json:12`, `--set …` or `default`. */
  readonly origins: Readonly<Record<string, string>>;
}

/** What may change a recipe as it is loaded. */
export interface LoadOptions {
  /** `key=value` as given with `--set`, later ones win. Paths in them are relative to the working folder. */
  readonly set?: readonly string[] | undefined;
}

/**
 * Reads, overrides, validates and resolves a recipe.
 *
 * @throws RecipeError with every problem at once; PotstillError when the file cannot be read or is not JSON
 */
export async function loadRecipe(file: string, options: LoadOptions = {}): Promise<LoadedRecipe> {
  return resolveRecipe(parseDocument(file, await readRecipe(file)), options);
}

/** As {@link loadRecipe}, for a recipe that has been parsed. */
export function resolveRecipe(document: RecipeDocument, { set = [] }: LoadOptions = {}): LoadedRecipe {
  const schema = recipeJsonSchema();
  const overrides = set.map((text) => parseOverride(schema, text));
  const given = overrides.reduce(applyOverride, document.value);
  // zod leaves the offending input out of its issues unless told to report it.
  const parsed = recipeSchema.safeParse(given, { reportInput: true });
  const problems = parsed.success ? [] : parsed.error.issues.flatMap((issue) => explainIssue(schema, issue));
  const [first, ...others] = problems.map((problem) => placeProblem(problem, document, overrides));
  if (first !== undefined) throw new RecipeError([first, ...others]);
  const written = withHeldOutShare(parsed.data as Recipe);
  const fromFile = recipeFolder(document.file);
  const recipe = resolvePaths(written, (path) =>
    overrideOf(path, overrides) === undefined ? fromFile : process.cwd(),
  );
  return { recipe, origins: Object.fromEntries(originsOf(recipe, [], document, overrides)) };
}

/** The text of a recipe, or of a config that becomes one. */
export async function readRecipe(file: string): Promise<string> {
  const found = await stat(file).catch((cause: unknown) => {
    throw inputError('ERR_RECIPE_FILE', 'the recipe cannot be read', {
      where: file,
      remedy: 'Check the path: a recipe is a JSON file.',
      cause,
    });
  });
  if (found.isDirectory()) {
    throw inputError('ERR_RECIPE_FILE', 'is a folder, not a recipe', {
      where: file,
      remedy: 'Name the recipe: a JSON file.',
    });
  }
  const { size } = found;
  if (size > MAX_RECIPE_BYTES) {
    throw inputError('ERR_RECIPE_FILE', `the file is ${size} bytes long, a recipe at most ${MAX_RECIPE_BYTES}`, {
      where: file,
      remedy: 'Name a recipe.',
    });
  }
  return readFile(file, 'utf8');
}

function placeProblem(problem: Problem, document: RecipeDocument, overrides: readonly Override[]): PlacedProblem {
  const full = problem.key === undefined ? problem.path : [...problem.path, problem.key];
  const override = overrideOf(full, overrides);
  if (override !== undefined) return { ...problem, where: override.text };
  const { line, column } = document.place(problem.path, problem.key);
  return { ...problem, where: `${document.file}:${line}:${column}` };
}

/** The last override that set this value or something around it. */
function overrideOf(path: readonly PropertyKey[], overrides: readonly Override[]): Override | undefined {
  return overrides.findLast((override) => override.path.every((step, index) => step === path[index]));
}

function* originsOf(
  value: unknown,
  path: readonly (string | number)[],
  document: RecipeDocument,
  overrides: readonly Override[],
): Generator<[path: string, origin: string]> {
  if (value === undefined) return;
  const override = overrideOf(path, overrides);
  if (override === undefined && typeof value === 'object' && value !== null && Object.keys(value).length > 0) {
    for (const [key, child] of Object.entries(value)) {
      yield* originsOf(child, [...path, Array.isArray(value) ? Number(key) : key], document, overrides);
    }
    return;
  }
  const fromFile = document.has(path) ? `${document.file}:${document.place(path).line}` : 'default';
  yield [formatPath(path), override?.text ?? fromFile];
}
