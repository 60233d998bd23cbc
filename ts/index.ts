/** What programs may use of potstill; the command line is the other way in. */
export { type ErrorCode, type ErrorKind, PotstillError } from './errors.ts';
export type { Progress, ProgressTask, TaskOptions } from './progress.ts';
export {
  type LoadedRecipe,
  type LoadOptions,
  loadRecipe,
  type Recipe,
  RecipeError,
  type ResolvedRecipe,
  recipeJsonSchema,
} from './recipe/index.ts';
