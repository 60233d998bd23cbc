import { methodOf } from '../methods/index.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import type { PredictionField } from './plan/types.ts';

/** What of a cache is asked for: `latents`, `text`, or a teacher by its id. */
export type Part = string;

/**
 * The predictions that training by a recipe reads of every teacher. Dropped captions turn conditional predictions into
 * unconditional ones, so dropout needs both.
 */
export function fieldsOf(recipe: ResolvedRecipe): readonly PredictionField[] {
  const { fields } = methodOf(recipe.method).needs(recipe.method);
  const dropout = recipe.data.some(({ captionDropout }) => captionDropout > 0);
  return fields.includes('cond') && dropout ? ['cond', 'uncond'] : fields;
}

/** The teachers whose predictions training by a recipe reads: none for a method that asks no teacher. */
export function teachersOf(recipe: ResolvedRecipe): ResolvedRecipe['teachers'] {
  return fieldsOf(recipe).length === 0 ? [] : recipe.teachers;
}
