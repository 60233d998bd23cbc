export { type PlacedProblem, RecipeError } from './error.ts';
export {
  type ImportedRecipe,
  type ImportNote,
  type ImportOptions,
  importRecipe,
  printRecipe,
} from './import/import-recipe.ts';
export { type JsonSchema, recipeJsonSchema } from './json-schema.ts';
export { type LoadedRecipe, type LoadOptions, loadRecipe, type ResolvedRecipe, resolveRecipe } from './load.ts';
export { type Recipe, recipeSchema } from './schema.ts';
