import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { inputError } from '../errors.ts';
import { type Progress, silentProgress } from '../progress.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { canonicalJson, type Json } from './canonical.ts';
import { readPlan } from './component.ts';
import { type DataScan, type DataSource, scanData } from './data/scan.ts';
import { inspectImage, inspectText, inspectUnet, inspectVae } from './inspect.ts';
import { type DigestOptions, digestComponent, digestEncoder } from './plan/model-digest.ts';
import {
  type DrawOptions,
  planLatents,
  planTeacher,
  planText,
  type TextFacts,
  type UnetFacts,
  type VaeFacts,
} from './plan/plans.ts';
import type { LatentsPlan, TeacherPlan, TextPlan } from './plan/types.ts';
import { fieldsOf, teachersOf } from './request.ts';

/** One teacher's plan, and where its model lies. */
export interface PlannedTeacher {
  readonly plan: TeacherPlan;
  readonly model: string;
}

/** The plans of everything that training by a recipe reads. */
export interface CachePlans {
  /** The cache's folder. */
  readonly dir: string;
  readonly scan: DataScan;
  readonly latents: LatentsPlan;
  readonly text: TextPlan;
  readonly teachers: readonly PlannedTeacher[];
}

/** What planning may be told. */
export interface PlanOptions {
  /** Which of the recipe's teachers to plan; all of them by default. */
  readonly teachers?: ((id: string) => boolean) | undefined;
  /** The draws of a teacher, where they are not what the recipe says. */
  readonly drawsOf?: ((id: string, shared: SharedDraws) => Promise<DrawOptions>) | undefined;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What draws of elsewhere are assigned to. */
export interface SharedDraws {
  readonly scan: DataScan;
  readonly latents: LatentsPlan;
}

/**
 * Plans a recipe's cache: finds the data, digests the models, and writes nothing.
 *
 * A model whose files are gone but whose records are in the cache is taken from the plan there: training needs the cache
 * alone. Whatever else that plan fixes must still fit.
 *
 * @throws PotstillError naming the file, for whatever cannot be used
 */
export async function planCache(
  recipe: ResolvedRecipe,
  { teachers: isWanted = () => true, drawsOf, progress = silentProgress, signal }: PlanOptions = {},
): Promise<CachePlans> {
  const options: DigestOptions = { progress, signal };
  const { dir, dtype } = recipe.cache;
  const student = await inspectUnet(recipe.student.model);
  const scan = await scanData(sourcesOf(recipe, student.sampleSize), inspectImage, { progress, signal });
  const latents = planLatents(scan, await vaeFacts(recipe, options), dtype);
  const text = planText(scan, await textFacts(recipe, options), dtype);
  const teachers: PlannedTeacher[] = [];
  for (const teacher of teachersOf(recipe).filter(({ id }) => isWanted(id))) {
    const unet = await unetFacts(recipe, teacher, text, options);
    if (unet.schedule.alphasCumprod !== student.alphasCumprod) {
      throw inputError(
        'ERR_TEACHER_SCHEDULE',
        `teacher ${teacher.id} was trained on another noise schedule than the student`,
        {
          where: teacher.model,
          remedy: 'Choose a teacher with the same betas in scheduler/scheduler_config.json.',
        },
      );
    }
    const drawing = await (drawsOf?.(teacher.id, { scan, latents }) ?? drawsOfRecipe(recipe, teacher.id));
    const plan = planTeacher(teacher.id, scan, { latents, text }, unet, fieldsOf(recipe), drawing, dtype);
    teachers.push({ plan, model: teacher.model });
  }
  return { dir, scan, latents, text, teachers };
}

/** Draws by the recipe; stored ones are in the plan that an import made. */
async function drawsOfRecipe({ cache, seed }: ResolvedRecipe, id: string): Promise<DrawOptions> {
  const { dir, draws, noise, timesteps } = cache;
  if (noise !== 'stored') return { draws, generator: noise, baseSeed: seed, timesteps };
  const stored = await readPlan(dir, `teachers/${id}`);
  if (stored?.component === 'teacher' && stored.given !== undefined) {
    const { given, timeIds } = stored;
    const { generator, baseSeed } = stored.noise;
    return { draws: stored.draws, generator, baseSeed, timesteps: stored.timesteps, given, timeIds };
  }
  throw inputError('ERR_CACHE_PART', `teacher ${id} has no stored noise in the cache`, {
    where: dir,
    remedy: 'Bring its files in with `potstill cache import FILES RECIPE`, or set cache.noise to "philox".',
  });
}

function sourcesOf(recipe: ResolvedRecipe, sampleSize: number | undefined): DataSource[] {
  return recipe.data.map(({ images, captions, size, flip, repeats, captionDropout, use }, index) => {
    const [width, height] = size ?? [ownSize(recipe, sampleSize, index), ownSize(recipe, sampleSize, index)];
    const heldOut = use === 'validation';
    return { images, captions, size: { width, height }, flip, repeats, captionDropout, heldOut };
  });
}

/** Pixels per latent: the UNet's configuration counts latents. */
const PIXELS_PER_LATENT = 8;

function ownSize(recipe: ResolvedRecipe, sampleSize: number | undefined, index: number): number {
  if (sampleSize !== undefined) return sampleSize * PIXELS_PER_LATENT;
  throw inputError('ERR_DATA_SIZE', `${join(recipe.student.model, 'unet', 'config.json')} states no sample_size`, {
    where: `data[${index}].size`,
    remedy: 'Give the size of the pictures in the recipe: "size": [512, 512].',
  });
}

async function vaeFacts(recipe: ResolvedRecipe, options: DigestOptions): Promise<VaeFacts> {
  const { model } = recipe.student;
  if (!(await hasPart(model, 'vae'))) {
    const stored = await readPlan(recipe.cache.dir, 'latents');
    if (stored?.component === 'latents') {
      const { weights, config, scalingFactor, channels, downscale } = stored.vae;
      return { digest: { weights, config }, scalingFactor, channels, downscale };
    }
  }
  const { files, ...facts } = await inspectVae(model);
  return { digest: await digestComponent(files, options), ...facts };
}

async function textFacts(recipe: ResolvedRecipe, options: DigestOptions): Promise<TextFacts> {
  const { model } = recipe.student;
  if (!(await hasPart(model, 'text_encoder'))) {
    const stored = await readPlan(recipe.cache.dir, 'text');
    if (stored?.component === 'text') return { encoders: stored.encoders, shape: stored.shape };
  }
  return readTextFacts(model, options);
}

async function readTextFacts(model: string, options: DigestOptions): Promise<TextFacts> {
  const { encoders, tokens, width, pooled } = await inspectText(model);
  const digests: TextFacts['encoders'][number][] = [];
  for (const { files, tokenizer } of encoders) digests.push(await digestEncoder({ ...files, tokenizer }, options));
  return { encoders: digests, shape: { tokens, width, pooled } };
}

async function unetFacts(
  recipe: ResolvedRecipe,
  { id, model }: ResolvedRecipe['teachers'][number],
  text: TextPlan,
  options: DigestOptions,
): Promise<UnetFacts> {
  if (!(await hasPart(model, 'unet'))) {
    const stored = await readPlan(recipe.cache.dir, `teachers/${id}`);
    if (stored?.component === 'teacher') {
      options.progress?.log(`${model} is not there: teacher ${id} is taken from its cache`);
      const { unet, prediction, schedule } = stored;
      return { digest: unet, prediction, schedule, timeIds: stored.timeIds !== undefined };
    }
  }
  const facts = await inspectUnet(model);
  // A single file's encoders are its own copy of what nearly all models share; the student's make the text.
  const folder = await isFolder(model);
  if (folder && (await hasPart(model, 'text_encoder'))) await checkEncoders(id, model, text, options);
  return {
    digest: await digestComponent(facts.files, options),
    prediction: facts.prediction,
    schedule: { timesteps: facts.timesteps, alphasCumprod: facts.alphasCumprod },
    timeIds: facts.kind === 'sdxl',
  };
}

/** A teacher reads the text that the student's encoders made, so its own must be the same. */
async function checkEncoders(id: string, model: string, text: TextPlan, options: DigestOptions): Promise<void> {
  const { encoders } = await readTextFacts(model, options);
  if (canonicalJson(encoders as unknown as Json) === canonicalJson(text.encoders as unknown as Json)) return;
  throw inputError('ERR_NOT_BUILT', `teacher ${id} has text encoders of its own, for which no text is cached yet`, {
    where: model,
    remedy:
      "Use a teacher with the student's text encoders, or take text_encoder out of its folder to use the student's.",
  });
}

/** Whether a model may have a component: its folder is there, or the model is a single file. */
async function hasPart(model: string, part: string): Promise<boolean> {
  return (await isFolder(join(model, part))) || (await stat(model).catch(() => undefined))?.isFile() === true;
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() === true;
}
