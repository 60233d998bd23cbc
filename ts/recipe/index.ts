export { type PlacedProblem, RecipeError } from './error.ts';
export {
  type ImportedRecipe,
  importRecipe,
  printRecipe,
} from './import/import-recipe.ts';
export type { ImportNote, ImportOptions } from './import/notes.ts';
export { type JsonSchema, recipeJsonSchema } from './json-schema.ts';
export { type LoadedRecipe, type LoadOptions, loadRecipe, type ResolvedRecipe, resolveRecipe } from './load.ts';
export { type MethodParts, methodParts } from './parts.ts';
export { type Recipe, recipeSchema } from './schema.ts';
