import { ensureCache } from '../cache/index.ts';
import { inputError } from '../errors.ts';
import { requireModelMemory } from '../machine/index.ts';
import { methodOf } from '../methods/index.ts';
import { applyUnetAdapter, componentFolder, loadEngine, openModel, Unet } from '../native/index.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { sourceOf } from './assemble.ts';
import { placesOf, splitData, validationOf } from './held-out-data.ts';
import { findStudent } from './measured-student.ts';
import type { TrainOptions } from './train.ts';
import type { ValidationFigures } from './validation.ts';

/** How {@link validate} runs. */
export interface ValidateOptions extends Omit<TrainOptions, 'resume'> {
  /**
   * What to measure in place of the recipe's student: a model (a folder or a single file), a UNet's folder (such as a run's
   * `student`), or an adapter on the recipe's student (such as a run's `student.safetensors`).
   */
  readonly student?: string | undefined;
}

/** What was measured, and on what. */
export interface ValidateResult extends ValidationFigures {
  /** The folder of the measured weights. */
  readonly student: string;
  readonly samples: number;
  /** Draws of (timestep, noise) per sample. */
  readonly draws: number;
}

/**
 * Measures a student on a recipe's held-out data and trains nothing: the figures that a run of the recipe would log for
 * these weights. Builds what is missing of the caches.
 *
 * @throws PotstillError when the recipe holds nothing out, or names what cannot be used; `ERR_MEMORY`; the signal's reason
 */
export async function validate(recipe: ResolvedRecipe, options: ValidateOptions): Promise<ValidateResult> {
  const { training, data, seed } = recipe;
  if (training.validation === undefined && data.every(({ use }) => use === 'train')) {
    throw inputError('ERR_VALIDATE_NO_DATA', 'the recipe holds no data out of training', {
      where: placesOf(recipe),
      remedy: 'Add an entry with "use": "validation" to `data`, or add `training.validation`.',
    });
  }
  const { progress, signal } = options;
  const { folder, is } = await findStudent(options.student ?? recipe.student.model);
  const weights = is === 'adapter' ? recipe.student.model : folder;
  await requireModelMemory([{ model: weights, part: 'unet' }]);
  const engine = options.engine ?? (await loadEngine());
  const cache = await ensureCache(recipe, engine, { progress, signal });
  const { heldOut } = splitData(recipe, cache);
  // A UNet or an adapter says nothing of its prediction: that is the student's which it was made from.
  const model = await openModel(engine, is === 'model' ? folder : recipe.student.model);
  const { prediction, schedule } = model;
  const unet = await Unet.open(engine, is === 'unet' ? folder : componentFolder(model, 'unet'));
  try {
    if (is === 'adapter') await applyUnetAdapter({ file: folder, weight: 1 }, recipe.student.model, unet);
    const method = methodOf(recipe.method);
    const parts = {
      student: { unet, prediction, schedule },
      ema: undefined,
      method,
      methodOptions: recipe.method,
      methodState: { ...method.state },
      source: sourceOf(engine, recipe, cache, schedule),
      seed,
      loss: training.loss,
    };
    const validation = validationOf(recipe, parts, cache, heldOut);
    using task = progress.start(`measuring ${folder}`, { total: validation.forwards, unit: 'rows' });
    const figures = await validation.measure(training.steps, { signal, onRows: (rows) => task.advance(rows) });
    return { student: folder, samples: validation.samples, draws: validation.size / validation.samples, ...figures };
  } finally {
    unet.dispose();
    schedule.dispose();
  }
}
