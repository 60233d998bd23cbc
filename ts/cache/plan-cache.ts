import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { aspectSizes } from '../data/aspect.ts';
import { inputError } from '../errors.ts';
import { inspectModel } from '../model/inspect.ts';
import type { WeightedAdapter } from '../native/lora.ts';
import { componentFolder, type ModelKind } from '../native/model.ts';
import { type Progress, silentProgress } from '../progress.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { canonicalJson, type Json } from './canonical.ts';
import { isSealed, readPlan } from './component.ts';
import { type DataScan, type DataSource, type PlannedSample, scanData } from './data/scan.ts';
import { inspectImage, inspectText, inspectUnet, inspectVae, type VaeOnDisk } from './inspect.ts';
import { digestAdapter } from './plan/adapter-digest.ts';
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
import { encodersOf, fieldsOf, isPredictedOn, teachersOf, vaeOf } from './request.ts';

/** One teacher's plan, and where its model and adapters lie. */
export interface PlannedTeacher {
  readonly plan: TeacherPlan;
  readonly model: string;
  readonly adapters: readonly WeightedAdapter[];
}

/** The plans of everything that training by a recipe reads. */
export interface CachePlans {
  /** The cache's folder. */
  readonly dir: string;
  /** The student's family. */
  readonly kind: ModelKind;
  readonly scan: DataScan;
  /** The scan's samples that teachers predict on, as the teachers' plans number them. */
  readonly predicted: readonly PlannedSample[];
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
  /** What teachers predict on. */
  readonly predicted: readonly PlannedSample[];
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
  const latents = planLatents(scan, await vaeFacts(recipe, student.kind, options), dtype);
  const text = planText(scan, await textFacts(recipe, options), dtype);
  const predicted = predictedOf(recipe, scan);
  const teachers: PlannedTeacher[] = [];
  for (const teacher of teachersOf(recipe).filter(({ id }) => isWanted(id))) {
    const unet = await unetFacts(recipe, teacher, { latents, text }, options);
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
    const drawing = await (drawsOf?.(teacher.id, { scan, predicted, latents }) ?? drawsOfRecipe(recipe, teacher.id));
    const shown = { views: scan.views, samples: predicted };
    const plan = planTeacher(teacher.id, shown, { latents, text }, unet, fieldsOf(recipe), drawing, dtype);
    const adapters = teacher.lora.map(({ file, scale }) => ({ file, weight: scale }));
    teachers.push({ plan, model: teacher.model, adapters });
  }
  return { dir, kind: student.kind, scan, predicted, latents, text, teachers };
}

/** Pictures that are trained on without teachers need no predictions. */
function predictedOf(recipe: ResolvedRecipe, { samples, training }: DataScan): readonly PlannedSample[] {
  const isRead = isPredictedOn(recipe);
  if (isRead.every((read) => read)) return samples;
  const wanted = new Set(training.flatMap(({ sample, source }) => (isRead[source] === true ? sample : [])));
  return samples.filter((_, index) => wanted.has(index));
}

/** Draws by the recipe; stored ones are in the plan that an import made. */
async function drawsOfRecipe({ cache, seed }: ResolvedRecipe, id: string): Promise<DrawOptions> {
  const { dir, draws, noise, timesteps } = cache;
  if (noise !== 'stored') return { draws, generator: noise, baseSeed: cache.seed ?? seed, timesteps };
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
  return recipe.data.map(
    ({ images, captions, size, aspect, flip, repeats, captionDropout, use, shuffle, masks }, index) => {
      const [width, height] = size ?? [ownSize(recipe, sampleSize, index), ownSize(recipe, sampleSize, index)];
      const sizes = aspect === undefined ? [{ width, height }] : aspectSizes({ width, height }, aspect);
      if (sizes.length === 0) {
        throw inputError('ERR_DATA_SIZE', `no size of about ${width}×${height} is within the bounds of "aspect"`, {
          where: `data[${index}].aspect`,
          remedy: 'Lower min or divisor, or raise max.',
        });
      }
      const heldOut = use === 'validation';
      const own = { shuffle: shuffle && { ...shuffle, seed: recipe.cache.seed ?? recipe.seed }, masks };
      return { images, captions, sizes, flip, repeats, captionDropout, heldOut, ...own };
    },
  );
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

async function vaeFacts(recipe: ResolvedRecipe, kind: ModelKind, options: DigestOptions): Promise<VaeFacts> {
  const { vae } = recipe.student;
  const isThere = vae === undefined ? await hasPart(encodersOf(recipe), 'vae') : existsSync(vae);
  if (!isThere) {
    const stored = await readPlan(recipe.cache.dir, 'latents');
    if (stored?.component === 'latents') {
      const { weights, config, scalingFactor, channels, downscale } = stored.vae;
      return { digest: { weights, config }, scalingFactor, channels, downscale };
    }
  }
  const { files, ...facts } = await inspectVae(vaeOf(recipe), kind);
  if (vae !== undefined) await checkNamedVae(recipe, vae, facts);
  return { digest: await digestComponent(files, options), ...facts };
}

async function textFacts(recipe: ResolvedRecipe, options: DigestOptions): Promise<TextFacts> {
  const model = encodersOf(recipe);
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
  { id, model, lora, storage }: ResolvedRecipe['teachers'][number],
  { latents, text }: Pick<CachePlans, 'latents' | 'text'>,
  options: DigestOptions,
): Promise<UnetFacts> {
  const plan = await readPlan(recipe.cache.dir, `teachers/${id}`);
  const stored = plan?.component === 'teacher' ? plan : undefined;
  const cached = stored !== undefined && (await isSealed(recipe.cache.dir, `teachers/${id}`)) ? stored.adapters : [];
  const adapters = await adapterFacts(id, lora, cached, options);
  if (!(await hasPart(model, 'unet'))) {
    if (stored !== undefined) {
      options.progress?.log(`${model} is not there: teacher ${id} is taken from its cache`);
      const { unet, prediction, schedule } = stored;
      return { digest: unet, prediction, schedule, timeIds: stored.timeIds !== undefined, adapters, storage };
    }
  }
  const facts = await inspectUnet(model);
  // A single file's encoders are its own copy of what nearly all models share; the student's make the text.
  const folder = await isFolder(model);
  // Encoders and a VAE that a recipe names are for every teacher, whatever came with it.
  const areShared = recipe.student.encoders !== undefined;
  // The digest of a single file is that of everything in it: its parts can be compared by what they are like alone.
  const byLikeness = areShared || !folder || (await isFile(encodersOf(recipe)));
  const compared = { id, model, byLikeness };
  if (folder && !areShared && (await hasPart(model, 'text_encoder'))) await checkEncoders(compared, text, options);
  const isNamed = recipe.student.vae !== undefined;
  if (isNamed || model !== recipe.student.model) {
    await checkVae({ ...compared, byLikeness: byLikeness || isNamed }, latents, options);
  }
  return {
    digest: await digestComponent(facts.files, options),
    prediction: facts.prediction,
    schedule: { timesteps: facts.timesteps, alphasCumprod: facts.alphasCumprod },
    timeIds: facts.kind === 'sdxl',
    adapters,
    storage,
  };
}

/** Adapters whose files are gone are taken from what is cached: no prediction is still to be made with them. */
async function adapterFacts(
  id: string,
  lora: ResolvedRecipe['teachers'][number]['lora'],
  cached: TeacherPlan['adapters'],
  options: DigestOptions,
): Promise<UnetFacts['adapters']> {
  const adapters: { readonly file: string; readonly scale: number }[] = [];
  for (const [index, { file, scale }] of lora.entries()) {
    const known = existsSync(file) ? undefined : cached[index]?.file;
    if (known !== undefined) {
      options.progress?.log(`${file} is not there: teacher ${id}'s adapter is taken from its cache, SHA-256 ${known}`);
    }
    adapters.push({ file: known ?? (await digestAdapter(file, options)), scale });
  }
  return adapters;
}

/** A teacher whose own VAE or text encoders are compared with those that the cache is made with. */
interface ComparedTeacher {
  readonly id: string;
  readonly model: string;
  /** By shapes and scales, not by the digests of weights. */
  readonly byLikeness: boolean;
}

/** A VAE may be another than the model's own; what its latents are must be the same. */
async function checkNamedVae(recipe: ResolvedRecipe, vae: string, named: Omit<VaeOnDisk, 'files'>): Promise<void> {
  const own = await ownVae(encodersOf(recipe));
  if (own === undefined || isAlike(own, named)) return;
  throw inputError('ERR_STUDENT_VAE', "this VAE's latents mean something else to the student", {
    where: vae,
    remedy: `The model's own has ${describeVae(own)}, this one ${describeVae(named)}: name a VAE of the student's family.`,
  });
}

/** A model's VAE; none where it has none, as the file of a UNet alone. */
async function ownVae(model: string): Promise<VaeOnDisk | undefined> {
  const isThere = (await isFile(model))
    ? (await inspectModel(model)).components.some(({ component }) => component === 'vae')
    : await hasPart(model, 'vae');
  return isThere ? inspectVae(componentFolder({ folder: model }, 'vae')) : undefined;
}

function describeVae({ channels, downscale, scalingFactor }: Omit<VaeOnDisk, 'files'>): string {
  return `${channels} channels, ${downscale} pixels to a latent, scaling factor ${scalingFactor}`;
}

function isAlike(a: Omit<VaeOnDisk, 'files'>, b: Omit<VaeOnDisk, 'files'>): boolean {
  return a.scalingFactor === b.scalingFactor && a.channels === b.channels && a.downscale === b.downscale;
}

/** A teacher predicts on the latents of the student's VAE, so its own must be the same. */
async function checkVae(
  { id, model, byLikeness }: ComparedTeacher,
  { vae }: LatentsPlan,
  options: DigestOptions,
): Promise<void> {
  const own = await ownVae(model);
  if (own === undefined) return;
  const alike = isAlike(own, vae);
  if (alike && byLikeness) return;
  const { weights } = await digestComponent(own.files, options);
  const isSame = canonicalJson(Object.values(weights)) === canonicalJson(Object.values(vae.weights));
  if (alike && isSame) return;
  throw inputError(
    'ERR_TEACHER_VAE',
    `teacher ${id} has another VAE than the student: its latents mean something else`,
    {
      where: join(model, 'vae'),
      remedy:
        "Use a teacher with the student's VAE; if it is the same one in another dtype, name the one to take as student.vae.",
    },
  );
}

/** A teacher reads the text that the student's encoders made, so its own must be the same. */
async function checkEncoders(
  { id, model, byLikeness }: ComparedTeacher,
  text: TextPlan,
  options: DigestOptions,
): Promise<void> {
  const { encoders, shape } = await readTextFacts(model, options);
  const [own, cached] = byLikeness ? [shape, text.shape] : [encoders, text.encoders];
  if (canonicalJson(own as unknown as Json) === canonicalJson(cached as unknown as Json)) return;
  throw inputError('ERR_NOT_BUILT', `teacher ${id} has text encoders of its own, for which no text is cached yet`, {
    where: model,
    remedy:
      "Use a teacher with the student's text encoders, or say that all teachers read the same text: name the model of its encoders as student.encoders.",
  });
}

/** Whether a model may have a component: its folder is there, or the model is a single file. */
async function hasPart(model: string, part: string): Promise<boolean> {
  return (await isFolder(join(model, part))) || (await isFile(model));
}

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() === true;
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() === true;
}
