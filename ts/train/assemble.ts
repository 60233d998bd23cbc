import type { OpenedCache } from '../cache/index.ts';
import { fieldsOf } from '../cache/request.ts';
import { BatchPlan } from '../data/batches.ts';
import { holdOut, type Sample } from '../data/entries.ts';
import { permutation } from '../data/order.ts';
import { inputError } from '../errors.ts';
import { methodOf } from '../methods/index.ts';
import { AdamW, componentFolder, Ema, type Engine, openModel, Unet } from '../native/index.ts';
import type { Recipe, ResolvedRecipe } from '../recipe/index.ts';
import { CacheSource } from './cache-source.ts';
import type { TrainerParts } from './trainer.ts';
import { Validation } from './validation.ts';

/** Everything that a run works with. */
export interface Assembly {
  readonly parts: TrainerParts;
  readonly validation: Validation | undefined;
}

/** Opens the student and sets up optimizer, moving average, data order and validation as a recipe says. */
export async function assemble(engine: Engine, recipe: ResolvedRecipe, cache: OpenedCache): Promise<Assembly> {
  const { training, seed } = recipe;
  const { optimizer } = training;
  const method = methodOf(recipe.method);
  const fields = fieldsOf(recipe);
  const { samples } = cache;
  const split = holdOut(samples, training.validation?.fraction ?? 0, seed);
  requireData(recipe, split.train.length, split.heldOut.length);
  requireOneSize(cache);
  const model = await openModel(engine, recipe.student.model);
  const { prediction, schedule } = model;
  const unet = await Unet.open(engine, componentFolder(model, 'unet'));
  unet.setTrainable('all');
  const parts: TrainerParts = {
    student: { unet, prediction, schedule },
    optimizers: {
      student: AdamW.create(unet, {
        betas: optimizer.betas,
        eps: optimizer.eps,
        weightDecay: optimizer.weightDecay,
      }),
    },
    ema: training.ema === undefined ? undefined : Ema.create(unet, { decay: training.ema.decay }),
    method,
    methodOptions: recipe.method,
    methodState: { ...method.state },
    plan: new BatchPlan({
      samples,
      among: split.train,
      seed,
      batch: training.batch,
      draws: fields.length > 0 ? recipe.cache.draws : 1,
    }),
    source: new CacheSource({
      engine,
      cache,
      schedule,
      fields,
      weights: normalisedWeights(recipe.teachers),
      timesteps: recipe.cache.timesteps,
    }),
    seed,
    loss: training.loss,
    lr: optimizer.lr,
    schedule: training.schedule,
    steps: training.steps,
    accumulation: training.accumulation,
    clip: training.clip ?? Number.POSITIVE_INFINITY,
    recompute: training.recompute,
  };
  return { parts, validation: validationOf(recipe, parts, samples, split.heldOut, fields.length > 0) };
}

/** The shares of the teachers in the target: their weights, divided by the sum. */
function normalisedWeights(teachers: Recipe['teachers']): ReadonlyMap<string, number> {
  const sum = teachers.reduce((total, { weight }) => total + weight, 0);
  return new Map(teachers.map(({ id, weight }) => [id, weight / sum]));
}

/** The validation that a recipe asks for, on a fixed choice of the held-out samples. */
function validationOf(
  { training: { validation, batch }, seed, cache }: Recipe,
  parts: TrainerParts,
  samples: readonly Sample[],
  heldOut: readonly number[],
  cached: boolean,
): Validation | undefined {
  if (validation === undefined) return undefined;
  // The held-out samples are in the order of the data; a prefix of that would be the first folder's alone.
  const among = [...permutation(seed, 0, heldOut.length)]
    .slice(0, validation.samples)
    .flatMap((index) => heldOut[index] ?? []);
  const draws = cached ? Math.min(validation.draws, cache.draws) : validation.draws;
  return new Validation(parts, { samples, among, seed, draws }, batch);
}

function requireData(recipe: Recipe, train: number, heldOut: number): void {
  const where = recipe.data.map(({ images }) => images).join(', ');
  if (train === 0) {
    throw inputError('ERR_DATA_EMPTY', 'there is no image to train on', { where, remedy: 'Add captioned images.' });
  }
  if (recipe.training.validation !== undefined && heldOut === 0) {
    throw inputError('ERR_DATA_EMPTY', 'a single image cannot be split into training and validation', {
      where,
      remedy: 'Add images, or leave training.validation out.',
    });
  }
}

/** A batch is one tensor, so its latents are of one size. */
function requireOneSize({ samples, reader }: OpenedCache): void {
  const sizes = new Set(
    samples.map(({ view }) => {
      const { width, height } = reader.sizeOf(view);
      return `${width}×${height}`;
    }),
  );
  if (sizes.size <= 1) return;
  throw inputError(
    'ERR_NOT_BUILT',
    `training on pictures of several sizes (${[...sizes].join(', ')}) is not built yet`,
    {
      where: 'data[].size',
      remedy: 'Give every entry of `data` the same size.',
    },
  );
}
