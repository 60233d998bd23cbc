import { changesText } from '../adapter/index.ts';
import { encodersOf, ensureCache } from '../cache/index.ts';
import { inputError } from '../errors.ts';
import { requireModelMemory } from '../machine/index.ts';
import { applyAdapter, componentFolder, loadEngine, openModel, TextEncoder, Unet } from '../native/index.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { needsPrior, needsTeachers } from '../recipe/parts.ts';
import { methodRuns, sourceOf } from './assemble.ts';
import { placesOf, splitData, validationOf } from './held-out-data.ts';
import { type LiveTeachers, openTeachers } from './live-teachers.ts';
import { lossSettings } from './loss-settings.ts';
import { findStudent } from './measured-student.ts';
import { openPrior, type Prior } from './prior.ts';
import type { TrainOptions } from './train.ts';
import type { ValidationFigures } from './validation.ts';

/** How {@link validate} runs. */
export interface ValidateOptions extends Omit<TrainOptions, 'resume'> {
  /**
   * What to measure in place of the recipe's student: a model (a folder or a single file), a UNet's folder (such as a run's
   * `student`), or an adapter on the recipe's student (such as a run's `student.safetensors`) or a folder of several.
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
  const { folder, is, adapters } = await findStudent(options.student ?? recipe.student.model);
  const weights = is === 'adapters' ? recipe.student.model : folder;
  const adaptsText = await someChangeText(adapters, recipe.student.model);
  const encoding = adaptsText ? [{ model: encodersOf(recipe), part: 'text' as const }] : [];
  const before = needsPrior(recipe) ? [{ model: recipe.student.model, part: 'unet' as const, what: 'prior' }] : [];
  const asked = needsTeachers(recipe) ? recipe.teachers : [];
  const beside = asked.map(({ id, model, storage }) => ({
    model,
    part: 'unet' as const,
    what: `teacher ${id}`,
    dtype: storage,
  }));
  const engine = options.engine ?? (await loadEngine({ device: recipe.device, say: (line) => progress.log(line) }));
  await requireModelMemory([{ model: weights, part: 'unet' }, ...encoding, ...before, ...beside], engine.device);
  const cache = await ensureCache(recipe, engine, { progress, signal });
  const { heldOut } = splitData(recipe, cache);
  // A UNet or an adapter says nothing of its prediction: that is the student's which it was made from.
  const model = await openModel(engine, is === 'model' ? folder : recipe.student.model);
  const { prediction, schedule } = model;
  const unet = await Unet.open(engine, is === 'unet' ? folder : componentFolder(model, 'unet'));
  let text: TextEncoder | undefined;
  let prior: Prior | undefined;
  let teachers: LiveTeachers | undefined;
  try {
    // As in training: text is the cache's, unless it is the encoders' with an adapter.
    text = adaptsText ? await TextEncoder.open(engine, encodersOf(recipe)) : undefined;
    for (const file of adapters) await applyAdapter({ file, weight: 1 }, recipe.student.model, { unet, text });
    prior = needsPrior(recipe) ? await openPrior(engine, recipe.student.model) : undefined;
    teachers = needsTeachers(recipe) ? await openTeachers(engine, recipe.teachers) : undefined;
    const parts = {
      student: { unet, prediction, schedule, text },
      ema: undefined,
      prior,
      teachers,
      methods: methodRuns(recipe),
      source: sourceOf(engine, recipe, cache, schedule),
      seed,
      loss: await lossSettings(recipe, prediction),
    };
    const validation = validationOf(recipe, parts, cache, heldOut);
    using task = progress.start(`measuring ${folder}`, { total: validation.forwards, unit: 'rows' });
    const figures = await validation.measure(training.steps, { signal, onRows: (rows) => task.advance(rows) });
    return { student: folder, samples: validation.samples, draws: validation.size / validation.samples, ...figures };
  } finally {
    prior?.dispose();
    teachers?.dispose();
    text?.dispose();
    unet.dispose();
    schedule.dispose();
  }
}

/** Whether any of several adapters does something to text encoders. */
async function someChangeText(adapters: readonly string[], model: string): Promise<boolean> {
  for (const file of adapters) if (await changesText(file, model)) return true;
  return false;
}
