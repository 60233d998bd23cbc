/** What programs may use of potstill; the command line is the other way in. */
export {
  type BuildOptions,
  type BuiltCache,
  buildCache,
  type ComponentOutcome,
  type Finding,
  type Verification,
  type VerificationReport,
  type VerifyBackend,
  type VerifyOptions,
  verifyCache,
} from './cache/index.ts';
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
export { type TrainOptions, type TrainResult, train } from './train/train.ts';
