import { changesText, trainsText } from '../adapter/index.ts';
import type { OpenedCache } from '../cache/index.ts';
import { basesOf, encodersOf, fieldsOf, fieldsOfMethod } from '../cache/request.ts';
import { BatchPlan } from '../data/batches.ts';
import { seedOf } from '../data/philox.ts';
import { inputError } from '../errors.ts';
import { type MethodOptions, methodOf } from '../methods/index.ts';
import {
  componentFolder,
  createOptimizer,
  Ema,
  type Engine,
  type LayerRate,
  Lora,
  type LoraSettings,
  openModel,
  type Schedule,
  TextEncoder,
  Unet,
} from '../native/index.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { methodParts, needsPrior, needsTeachers } from '../recipe/parts.ts';
import { type NewLora, textRate, trainedAdapters } from '../recipe/student.ts';
import { CacheSource, type CacheSourceOptions } from './cache-source.ts';
import { placesOf, samplesOf, splitData, validationOf } from './held-out-data.ts';
import { openTeachers } from './live-teachers.ts';
import { lossSettings } from './loss-settings.ts';
import { openPrior, type Prior, priorWithout } from './prior.ts';
import type { Network } from './roles.ts';
import type { MethodRun, NamedLora, TrainerParts } from './trainer.ts';
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
  const { train, heldOut } = splitData(recipe, cache);
  if (train.length === 0) {
    const where = placesOf(recipe);
    const remedy = 'Add captioned images that are not held out.';
    throw inputError('ERR_DATA_EMPTY', 'there is no image to train on', { where, remedy });
  }
  const model = await openModel(engine, recipe.student.model);
  const { prediction, schedule } = model;
  const unet = await Unet.open(engine, componentFolder(model, 'unet'));
  const text = (await trainsText(recipe.student)) ? await TextEncoder.open(engine, encodersOf(recipe)) : undefined;
  const loras = await trainedLoras({ unet, text }, recipe);
  const student = { unet, prediction, schedule, text };
  const parts: TrainerParts = {
    student,
    loras,
    optimizers: {
      student: createOptimizer(unet, { ...optimizer, rates: ratesOf(recipe) }),
    },
    ema: training.ema === undefined ? undefined : Ema.create(unet, { decay: training.ema.decay }),
    prior: needsPrior(recipe) ? await priorOf(engine, recipe, student, loras) : undefined,
    teachers: needsTeachers(recipe) ? await openTeachers(engine, recipe.teachers) : undefined,
    methods: methodRuns(recipe),
    regularise: training.regularise,
    plan: new BatchPlan({
      samples: samplesOf(recipe, cache),
      among: train,
      seed,
      batch: training.batch,
      // Fresh draws beside cached ones: as many, so that an epoch has each picture as often as the recipe says.
      draws: fieldsOf(recipe).length > 0 ? cache.draws : 1,
    }),
    source: sourceOf(engine, recipe, cache, schedule),
    seed,
    loss: await lossSettings(recipe, prediction),
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

/** Factors on the learning rate by layers: of the text encoders as a whole, then those that the recipe names. */
function ratesOf({ student: { train }, training: { optimizer } }: ResolvedRecipe): readonly LayerRate[] {
  const factor = textRate(train);
  return factor === undefined ? optimizer.rates : [{ layers: 'text_encoder*', factor }, ...optimizer.rates];
}

/** Chooses what is trained: all weights, or LoRAs, which are made or opened. */
async function trainedLoras(
  { unet, text }: Pick<Network, 'unet' | 'text'>,
  { student: { model, train }, seed }: ResolvedRecipe,
): Promise<readonly NamedLora[]> {
  if (train === 'unet') unet.setTrainable('all');
  const loras: NamedLora[] = [];
  const sites = new Map<string, string>();
  for (const { name, lora: wanted } of trainedAdapters(train)) {
    const made: NamedLora =
      typeof wanted === 'string'
        ? { name, ...(await openLora({ unet, text }, wanted, model)) }
        : { name, lora: await newLora(unet, wanted, seed), text: await newTextLora({ unet, text }, wanted, seed) };
    for (const part of [made.lora, ...(made.text === undefined ? [] : [made.text])]) {
      part.setTrainable(true);
      for (const parameter of await part.parameters()) {
        const other = sites.get(parameter.name);
        if (other !== undefined) throw sharedLayer(parameter.name, [other, name ?? '']);
        sites.set(parameter.name, name ?? '');
      }
    }
    loras.push(made);
  }
  return loras;
}

/** Two LoRAs on one layer are one of more ranks: whose part is whose, nothing says. */
function sharedLayer(parameter: string, [first, second]: readonly [string, string]): Error {
  const layer = parameter.replace(/\.lora_.*$/, '');
  return inputError('ERR_ADAPTER_INPUT', `the LoRAs "${first}" and "${second}" both sit on ${layer}`, {
    where: 'student.train.loras',
    remedy: 'Give each layers of its own by `targets`.',
  });
}

/** A LoRA to go on with: on the UNet, and on the text encoders where it has layers there. */
async function openLora(
  { unet, text }: Pick<Network, 'unet' | 'text'>,
  file: string,
  model: string,
): Promise<Pick<NamedLora, 'lora' | 'text'>> {
  const whole = { file, weight: 1 };
  const lora = await Lora.open(unet, whole, model);
  if (text === undefined || !(await changesText(file, model))) return { lora };
  return { lora, text: await Lora.openOnText(text, unet, whole, model) };
}

function newLora(unet: Unet, { text: _, ...wanted }: NewLora, seed: number): Promise<Lora> {
  return Lora.create(unet, settingsOf(wanted, BigInt(seed)));
}

/** What a LoRA has on the text encoders, if it is to have something there. */
async function newTextLora(
  { unet, text }: Pick<Network, 'unet' | 'text'>,
  { text: wanted, rslora, dora }: NewLora,
  seed: number,
): Promise<Lora | undefined> {
  if (wanted === undefined || text === undefined) return undefined;
  const { rate: _, ...settings } = wanted;
  const own = seedOf('text encoders', String(seed));
  return Lora.createOnText(text, unet, settingsOf({ ...settings, blocks: [], rslora, dora }, own));
}

function settingsOf(
  { rank, alpha = rank, targets, blocks, rslora, dora }: Omit<NewLora, 'text'>,
  seed: bigint,
): LoraSettings {
  // The product is scaled by alpha / rank there; with alpha·√rank for alpha that is alpha / √rank, in every file too.
  const scaled = (own: number, of: number): number => (rslora ? own * Math.sqrt(of) : own);
  return {
    rank,
    alpha: scaled(alpha, rank),
    targets: [targets].flat(),
    blocks: blocks.map((block) => {
      const { rank: own = rank } = block;
      return { layers: block.layers, rank: own, alpha: scaled(block.alpha ?? (alpha / rank) * own, own) };
    }),
    dora,
    seed,
  };
}

async function priorOf(
  engine: Engine,
  { student: { model } }: ResolvedRecipe,
  student: Network,
  loras: readonly NamedLora[],
): Promise<Prior> {
  if (loras.length === 0) return openPrior(engine, model);
  return priorWithout(
    student,
    loras.map(({ lora }) => lora),
  );
}

/** The methods of a recipe at the beginning of a run. */
export function methodRuns(recipe: ResolvedRecipe): readonly [MethodRun, ...MethodRun[]] {
  const run = (options: MethodOptions): MethodRun => {
    const method = methodOf(options);
    return { method, options, state: { ...method.state } };
  };
  const [own, ...others] = methodParts(recipe).methods;
  return [run(own), ...others.map(run)];
}

/** The batches of a recipe's cache. */
export function sourceOf(engine: Engine, recipe: ResolvedRecipe, cache: OpenedCache, schedule: Schedule): CacheSource {
  return new CacheSource({
    engine,
    cache,
    schedule,
    fields: readFields(recipe),
    bases: basesOf(recipe),
    weights: normalisedWeights(recipe.teachers),
    timesteps: recipe.cache.timesteps,
    distribution: recipe.training.timesteps,
    noiseOffset: recipe.training.noiseOffset,
  });
}

/**
 * The predictions that each method's batches are read with. A caption that is dropped turns `cond` into `uncond`, which
 * needs no field of its own.
 */
function readFields(recipe: ResolvedRecipe): CacheSourceOptions['fields'] {
  return methodParts(recipe).methods.map((options) => fieldsOfMethod(options));
}

/** The shares of the teachers in the target: their weights, divided by the sum. */
function normalisedWeights(teachers: ResolvedRecipe['teachers']): ReadonlyMap<string, number> {
  const sum = teachers.reduce((total, { weight }) => total + weight, 0);
  return new Map(teachers.map(({ id, weight }) => [id, weight / sum]));
}
