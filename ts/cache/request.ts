import { type MethodOptions, methodOf } from '../methods/index.ts';
import { componentFolder, vaePath } from '../native/model.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { methodParts } from '../recipe/parts.ts';
import type { PredictionField } from './plan/types.ts';

/** What of a cache is asked for: `latents`, `text`, or a teacher by its id. */
export type Part = string;

/** The ids of recipes have no dot, so this one is free. */
const BASE = '.base';

type Teacher = ResolvedRecipe['teachers'][number];

/**
 * The predictions that training by a recipe reads of every teacher. Dropped captions turn conditional predictions into
 * unconditional ones, so dropout needs both.
 */
export function fieldsOf(recipe: ResolvedRecipe): readonly PredictionField[] {
  const { methods, ofEntry } = methodParts(recipe);
  const dropout = recipe.data.some(
    ({ captionDropout }, entry) => captionDropout > 0 && fieldsOfMethod(methods[ofEntry[entry] ?? 0]).includes('cond'),
  );
  const wanted = new Set(methods.flatMap((options) => fieldsOfMethod(options)));
  if (dropout) wanted.add('uncond');
  return (['cond', 'uncond'] as const).filter((field) => wanted.has(field));
}

/** The model whose text encoders make a recipe's text, and whose VAE its latents unless another is named. */
export function encodersOf({ student }: ResolvedRecipe): string {
  return student.encoders ?? student.model;
}

/** Where the VAE lies that makes a recipe's latents and pictures: the one that is named, else that of {@link encodersOf}. */
export function vaeOf(recipe: ResolvedRecipe): string {
  const { vae } = recipe.student;
  return vae === undefined ? componentFolder({ folder: encodersOf(recipe) }, 'vae') : vaePath(vae);
}

/** The predictions that one of a recipe's methods reads. */
export function fieldsOfMethod(options: MethodOptions | undefined): readonly PredictionField[] {
  return options === undefined ? [] : methodOf(options).needs(options).fields;
}

/** Which of a recipe's data entries teachers predict on: those whose method reads them. */
export function isPredictedOn(recipe: ResolvedRecipe): readonly boolean[] {
  const { methods, ofEntry } = methodParts(recipe);
  return ofEntry.map((part) => fieldsOfMethod(methods[part]).length > 0);
}

/**
 * The teachers whose predictions training by a recipe reads: none for methods that ask no teacher; for those that compare
 * teachers with their models, these models too, without adapters, as `<id>.base`: one for all teachers of one model.
 */
export function teachersOf(recipe: ResolvedRecipe): ResolvedRecipe['teachers'] {
  if (fieldsOf(recipe).length === 0) return [];
  const bases = basesOf(recipe);
  const models = recipe.teachers.flatMap((teacher) =>
    bases.get(teacher.id) === `${teacher.id}${BASE}` ? { ...teacher, id: `${teacher.id}${BASE}`, lora: [] } : [],
  );
  return [...recipe.teachers, ...models];
}

/** For every teacher, the id under which its model without adapters is cached; empty where no method wants that. */
export function basesOf(recipe: ResolvedRecipe): ReadonlyMap<string, string> {
  const isWanted = methodParts(recipe).methods.some((options) => methodOf(options).needs(options).bases === true);
  if (!isWanted) return new Map();
  const first = ({ model, storage }: Teacher): string =>
    recipe.teachers.find((teacher) => teacher.model === model && teacher.storage === storage)?.id ?? '';
  return new Map(recipe.teachers.map((teacher) => [teacher.id, `${first(teacher)}${BASE}`]));
}
