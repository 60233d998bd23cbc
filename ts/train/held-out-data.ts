import type { OpenedCache } from '../cache/index.ts';
import { fieldsOf } from '../cache/request.ts';
import { holdOut, holdOutMarked, type Split } from '../data/entries.ts';
import { permutation } from '../data/order.ts';
import { inputError } from '../errors.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { setNames } from './set-names.ts';
import { type MeasuredParts, Validation } from './validation.ts';

/** Samples and draws of a measurement that a recipe says nothing about: those of `training.validation`. */
const DEFAULTS = { samples: 32, draws: 4 };

/** What a recipe trains on and what it holds out: data entries for validation, or else a share of the images. */
export function splitData(recipe: ResolvedRecipe, { samples }: OpenedCache): Split {
  const { data, seed, training } = recipe;
  const split = data.some(({ use }) => use === 'validation')
    ? holdOutMarked(samples)
    : holdOut(samples, training.validation?.fraction ?? 0, seed);
  if (training.validation !== undefined && split.heldOut.length === 0) {
    throw inputError('ERR_DATA_EMPTY', 'there is no image to hold out: a single one cannot be split', {
      where: placesOf(recipe),
      remedy: 'Add images, or leave training.validation out.',
    });
  }
  return split;
}

/** The folders of a recipe's data, for messages. */
export function placesOf({ data }: ResolvedRecipe): string {
  return data.map(({ images }) => images).join(', ');
}

/** The validation of a recipe, on a fixed choice of the held-out samples. */
export function validationOf(
  recipe: ResolvedRecipe,
  parts: MeasuredParts,
  { samples, draws: cachedDraws }: OpenedCache,
  heldOut: readonly number[],
): Validation {
  const { seed, training, data } = recipe;
  const { samples: limit, draws } = training.validation ?? DEFAULTS;
  // The held-out samples are in the order of the data; a prefix of that would be the first folder's alone.
  const among = [...permutation(seed, 0, heldOut.length)].slice(0, limit).flatMap((index) => heldOut[index] ?? []);
  const several = data.filter(({ use }) => use === 'validation').length > 1;
  const names = setNames(data.map(({ images }) => images));
  return new Validation(parts, {
    samples,
    among,
    seed,
    draws: fieldsOf(recipe).length > 0 ? Math.min(draws, cachedDraws) : draws,
    batch: training.batch,
    setOf: several ? (sample) => names[samples[sample]?.source ?? -1] ?? '' : undefined,
  });
}
