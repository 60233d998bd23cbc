import type { CachedSample, OpenedCache } from '../cache/index.ts';
import { fieldsOf } from '../cache/request.ts';
import { holdOut, holdOutMarked, type Sample, type Split } from '../data/entries.ts';
import { permutation } from '../data/order.ts';
import { inputError } from '../errors.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { methodParts } from '../recipe/parts.ts';
import { setNames } from './set-names.ts';
import { type MeasuredParts, Validation } from './validation.ts';

/** Samples and draws of a measurement that a recipe says nothing about: those of `training.validation`. */
const DEFAULTS = { samples: 32, draws: 4 };

/** What a recipe trains on and what it holds out: data entries for validation, or else a share of the images. */
export function splitData(recipe: ResolvedRecipe, { samples }: OpenedCache): Split {
  const { data, training } = recipe;
  const split = data.some(({ use }) => use === 'validation')
    ? holdOutMarked(samples)
    : holdOutOwn(recipe, samples, training.validation?.fraction ?? 0);
  if (training.validation !== undefined && split.heldOut.length === 0) {
    throw inputError('ERR_DATA_EMPTY', 'there is no image to hold out: a single one cannot be split', {
      where: placesOf(recipe),
      remedy: 'Add images, or leave training.validation out.',
    });
  }
  // Orders of a caption stand in for their first one; they are none of their own.
  const isOwn = (index: number): boolean => samples[index]?.variantOf === undefined;
  return { train: split.train.filter(isOwn), heldOut: split.heldOut.filter(isOwn) };
}

/**
 * Holds out a share of the images that are trained by the recipe's own method: what is measured is one kind of loss. Other
 * entries' samples of these images are neither trained on nor measured.
 */
function holdOutOwn(recipe: ResolvedRecipe, samples: readonly CachedSample[], fraction: number): Split {
  const { ofEntry } = methodParts(recipe);
  const own = Math.min(...ofEntry);
  const among = [...samples.keys()].filter((index) => ofEntry[samples[index]?.source ?? -1] === own);
  const split = holdOut(
    among.flatMap((index) => samples[index] ?? []),
    fraction,
    recipe.seed,
  );
  const heldOut = split.heldOut.flatMap((index) => among[index] ?? []);
  const images = new Set(heldOut.map((index) => samples[index]?.image));
  return { train: [...samples.keys()].filter((index) => !images.has(samples[index]?.image)), heldOut };
}

/** The samples of a cache as a recipe's data entries would have them used. */
export function samplesOf(recipe: ResolvedRecipe, { samples }: OpenedCache): readonly (CachedSample & Sample)[] {
  const { ofEntry } = methodParts(recipe);
  return samples.map((sample) => {
    const { lossWeight } = recipe.data[sample.source] ?? { lossWeight: 1 };
    return { ...sample, part: ofEntry[sample.source] ?? 0, lossWeight };
  });
}

/** The folders of a recipe's data, for messages. */
export function placesOf({ data }: ResolvedRecipe): string {
  return data.map(({ images }) => images).join(', ');
}

/** The validation of a recipe, on a fixed choice of the held-out samples. */
export function validationOf(
  recipe: ResolvedRecipe,
  parts: MeasuredParts,
  cache: OpenedCache,
  heldOut: readonly number[],
): Validation {
  const { seed, training, data } = recipe;
  const samples = samplesOf(recipe, cache);
  const { samples: limit, draws } = training.validation ?? DEFAULTS;
  // The held-out samples are in the order of the data; a prefix of that would be the first folder's alone.
  const among = [...permutation(seed, 0, heldOut.length)].slice(0, limit).flatMap((index) => heldOut[index] ?? []);
  const several = data.filter(({ use }) => use === 'validation').length > 1;
  const names = setNames(data.map(({ images }) => images));
  return new Validation(parts, {
    samples,
    among,
    seed,
    draws: fieldsOf(recipe).length > 0 ? Math.min(draws, cache.draws) : draws,
    batch: training.batch,
    setOf: several ? (sample) => names[samples[sample]?.source ?? -1] ?? '' : undefined,
  });
}
