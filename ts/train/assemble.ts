import type { OpenedCache } from '../cache/index.ts';
import { fieldsOf } from '../cache/request.ts';
import { BatchPlan } from '../data/batches.ts';
import { inputError } from '../errors.ts';
import { methodOf } from '../methods/index.ts';
import { AdamW, componentFolder, Ema, type Engine, Lora, openModel, type Schedule, Unet } from '../native/index.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { CacheSource } from './cache-source.ts';
import { placesOf, splitData, validationOf } from './held-out-data.ts';
import type { TrainerParts } from './trainer.ts';
import type { Validation } from './validation.ts';

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
  const { train, heldOut } = splitData(recipe, cache);
  if (train.length === 0) {
    const where = placesOf(recipe);
    const remedy = 'Add captioned images that are not held out.';
    throw inputError('ERR_DATA_EMPTY', 'there is no image to train on', { where, remedy });
  }
  const model = await openModel(engine, recipe.student.model);
  const { prediction, schedule } = model;
  const unet = await Unet.open(engine, componentFolder(model, 'unet'));
  const lora = await trainedLora(unet, recipe);
  const parts: TrainerParts = {
    student: { unet, prediction, schedule },
    lora,
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
      among: train,
      seed,
      batch: training.batch,
      draws: fields.length > 0 ? cache.draws : 1,
    }),
    source: sourceOf(engine, recipe, cache, schedule),
    seed,
    loss: training.loss,
    lr: optimizer.lr,
    schedule: training.schedule,
    steps: training.steps,
    accumulation: training.accumulation,
    clip: training.clip ?? Number.POSITIVE_INFINITY,
    recompute: training.recompute,
  };
  const validation = training.validation === undefined ? undefined : validationOf(recipe, parts, cache, heldOut);
  return { parts, validation };
}

/** Chooses what is trained: all weights, or a LoRA, which is made. */
async function trainedLora(unet: Unet, { student: { train }, seed }: ResolvedRecipe): Promise<Lora | undefined> {
  if (train === 'unet') {
    unet.setTrainable('all');
    return undefined;
  }
  const { rank, alpha = rank, targets } = train.lora;
  const lora = await Lora.create(unet, { rank, alpha, targets: [targets].flat(), seed: BigInt(seed) });
  lora.setTrainable(true);
  return lora;
}

/** The batches of a recipe's cache. */
export function sourceOf(engine: Engine, recipe: ResolvedRecipe, cache: OpenedCache, schedule: Schedule): CacheSource {
  return new CacheSource({
    engine,
    cache,
    schedule,
    fields: fieldsOf(recipe),
    weights: normalisedWeights(recipe.teachers),
    timesteps: recipe.cache.timesteps,
  });
}

/** The shares of the teachers in the target: their weights, divided by the sum. */
function normalisedWeights(teachers: ResolvedRecipe['teachers']): ReadonlyMap<string, number> {
  const sum = teachers.reduce((total, { weight }) => total + weight, 0);
  return new Map(teachers.map(({ id, weight }) => [id, weight / sum]));
}
