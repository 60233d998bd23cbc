import type { Need } from '../methods/define.ts';
import { type MethodOptions, methodOf } from '../methods/index.ts';
import type { Recipe } from './schema.ts';

/** The methods of a recipe, and which of them each data entry is trained by. */
export interface MethodParts {
  /** The recipe's own first, then those that data entries state, no two alike. */
  readonly methods: readonly [MethodOptions, ...MethodOptions[]];
  /** Index into {@link methods}, one per data entry. */
  readonly ofEntry: readonly number[];
}

/** Tells the methods of a recipe apart. */
export function methodParts({ method, data }: Pick<Recipe, 'method' | 'data'>): MethodParts {
  const methods: [MethodOptions, ...MethodOptions[]] = [method];
  const known = [JSON.stringify(method)];
  const ofEntry = data.map((entry) => {
    if (entry.method === undefined) return 0;
    const text = JSON.stringify(entry.method);
    if (!known.includes(text)) {
      known.push(text);
      methods.push(entry.method);
    }
    return known.indexOf(text);
  });
  return { methods, ofEntry };
}

/** Whether training by a recipe asks what the student was before it. */
export function needsPrior(recipe: Pick<Recipe, 'method' | 'data' | 'training'>): boolean {
  const { regularise, masks } = recipe.training;
  const preserves = masks.prior > 0 && recipe.data.some((entry) => entry.masks !== undefined);
  return isNeeded(recipe, 'prior') || regularise.prior > 0 || preserves;
}

/** Whether training by a recipe asks its teachers themselves, beside what they predicted for the cache. */
export function needsTeachers(recipe: Pick<Recipe, 'method' | 'data'>): boolean {
  return isNeeded(recipe, 'teachers');
}

function isNeeded(recipe: Pick<Recipe, 'method' | 'data'>, need: Need): boolean {
  return methodParts(recipe).methods.some((options) => methodOf(options).needs(options).roles.includes(need));
}
