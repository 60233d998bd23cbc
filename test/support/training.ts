import { silentProgress } from '../../ts/progress.ts';
import { type ResolvedRecipe, resolveRecipe } from '../../ts/recipe/index.ts';
import { type TrainOptions, type TrainResult, train } from '../../ts/train/train.ts';

/** What a recipe of this value in this file resolves to. The file need not exist: paths are relative to its folder. */
export function resolveValue(file: string, value: unknown): ResolvedRecipe {
  return resolveRecipe({ file, value, place: () => ({ line: 1, column: 1 }), has: () => true }).recipe;
}

/** Trains from the start, silently and to the end, unless options say otherwise. */
export function trainQuietly(recipe: ResolvedRecipe, options: Partial<TrainOptions> = {}): Promise<TrainResult> {
  const { signal } = new AbortController();
  return train(recipe, { resume: false, signal, progress: silentProgress, ...options });
}
