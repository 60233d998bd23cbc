import { CAPTIONS_PER_BATCH, IMAGES_PER_BATCH, ROWS_PER_BATCH } from '../cache/build/batches.ts';
import { encodersOf, teachersOf, vaeOf } from '../cache/request.ts';
import { availableMemory, type MemoryNeed, trainingNeeds, unetBytes, weightBytes } from '../machine/index.ts';
import { addon, type Device, type MemoryQuestion, type PredictedMemory } from '../native/index.ts';
import { unwrap } from '../native/outcome.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { type Train, trainedAdapters } from '../recipe/student.ts';

/** Rank of a LoRA that nothing is known of. */
const USUAL_RANK = 16;

/** Bytes of a value: everything is computed in f32. */
const BYTES = 4;
/** Pixels to a latent. */
const LATENT = 8;
/** Side of the latents of a model that does not say what it was made for, as `sample` takes it. */
const DEFAULT_LATENT_SIDE = 64;
/** What Node, the program and the addon take before any model is loaded; on a GPU, CUDA's context and its libraries. */
export const RUNTIME = { cpu: 150e6, cuda: 600e6 } as const;
/** An operation's own memory beside its inputs and outputs, as a share of the activations that live at once. */
const SCRATCH = 0.1;
/**
 * Filters as convolutions transform them, as a share of a UNet's weights. With it, the predictions for SD1.5 and SDXL at 512²
 * lie within 3 % of the peaks that `bench` recorded for whole processes (`bench/results/unet-*.json`); a test compares them.
 */
const FILTERS = 0.05;

/** One thing that a recipe does, with one set of models in memory. */
export interface MemoryPhase {
  /** `latents`, `text`, `teacher ID`, `training`, `pictures`. */
  readonly phase: string;
  readonly needs: readonly MemoryNeed[];
  /** The sum. */
  readonly bytes: number;
  readonly fits: boolean;
}

/** What a recipe takes at most, phase by phase. */
export interface MemoryEstimate {
  readonly device: Device;
  /** Bytes that can be had there now. */
  readonly available: number;
  readonly phases: readonly MemoryPhase[];
  readonly fits: boolean;
}

/**
 * Predicts how much memory a recipe takes, from configurations and headers alone: no model is loaded and no image read.
 *
 * @param options.device where it is to run
 * @param options.available bytes that can be had, for tests; asked of the device unless given
 * @throws PotstillError as running the recipe would, when a model's file is missing or malformed
 */
export async function estimateMemory(
  recipe: ResolvedRecipe,
  options: { readonly device: Device; readonly available?: number },
): Promise<MemoryEstimate> {
  const { device, available = await availableMemory(device) } = options;
  const encoders = encodersOf(recipe);
  const size = await largestSize(recipe);
  const found: [phase: string, needs: readonly MemoryNeed[]][] = [
    ['latents', await latentsNeeds(recipe, size)],
    ['text', await textNeeds(encoders)],
  ];
  for (const teacher of teachersOf(recipe)) {
    found.push([`teacher ${teacher.id}`, await teacherNeeds(teacher, size)]);
  }
  found.push(['training', await trainingPhase(recipe, size)]);
  if (recipe.sampling !== undefined) found.push(['pictures', await picturesNeeds(recipe)]);
  const runtime = { what: 'program', bytes: RUNTIME[device === 'cpu' ? 'cpu' : 'cuda'] };
  const phases = found.map(([phase, needs]): MemoryPhase => {
    const all = [...needs, runtime].map(({ what, bytes }) => ({ what, bytes: Math.round(bytes) }));
    const bytes = all.reduce((sum, need) => sum + need.bytes, 0);
    return { phase, needs: all, bytes, fits: bytes <= available };
  });
  return { device, available, phases, fits: phases.every(({ fits }) => fits) };
}

/** Pixels of a picture. */
type Side = { readonly width: number; readonly height: number };

/** The largest pictures that a recipe trains on. */
async function largestSize({ data, student }: ResolvedRecipe): Promise<Side> {
  const own = await ownSide(student.model);
  const sizes = data.map(({ size: [width, height] = [own, own] }) => ({ width, height }));
  return sizes.reduce((a, b) => (b.width * b.height > a.width * a.height ? b : a));
}

async function ownSide(model: string): Promise<number> {
  const { sampleSize = DEFAULT_LATENT_SIDE } = unwrap(await addon().inspectUnet(model));
  return sampleSize * LATENT;
}

/** Of a UNet that predicts, or is trained. */
async function ofUnet(
  model: string,
  size: Side,
  question: Omit<MemoryQuestion, 'width' | 'height'>,
): Promise<PredictedMemory> {
  return unwrap(await addon().predictUnetMemory(model, { ...question, ...size }));
}

function filters({ weights }: PredictedMemory): MemoryNeed {
  return { what: 'filters', bytes: FILTERS * BYTES * weights };
}

function activations(values: number): MemoryNeed {
  return { what: 'activations', bytes: BYTES * values * (1 + SCRATCH) };
}

async function latentsNeeds(recipe: ResolvedRecipe, { width, height }: Side): Promise<readonly MemoryNeed[]> {
  const values = unwrap(await addon().predictVaeMemory(vaeOf(recipe), 'encode', IMAGES_PER_BATCH, height, width));
  return [await vaeNeed(recipe), activations(values)];
}

async function vaeNeed(recipe: ResolvedRecipe): Promise<MemoryNeed> {
  return { what: 'VAE', bytes: await weightBytes(recipe.student.vae ?? encodersOf(recipe), 'vae') };
}

/** Captions of a batch are small beside the encoders. */
async function textNeeds(model: string): Promise<readonly MemoryNeed[]> {
  const { width, tokens } = unwrap(await addon().inspectText(model));
  // The feed-forward layers of a batch, four times as wide as the tokens, and what goes in and comes out.
  const values = CAPTIONS_PER_BATCH * tokens * width * 10;
  return [{ what: 'text encoders', bytes: await weightBytes(model, 'text') }, activations(values)];
}

async function teacherNeeds(
  { model, storage }: Pick<ResolvedRecipe['teachers'][number], 'model' | 'storage'>,
  { width, height }: Side,
): Promise<readonly MemoryNeed[]> {
  const question = { batch: ROWS_PER_BATCH, width, height, trained: 'nothing', recompute: false } as const;
  const held = await unetBytes(model, storage);
  const needs = await unetNeeds(model, question);
  return needs.map((need) => (need.what === 'weights' && storage !== 'f32' ? { ...need, bytes: held } : need));
}

/** What predicting with a UNet takes, or a step of training it, without the optimizer. */
export async function unetNeeds(model: string, question: MemoryQuestion): Promise<readonly MemoryNeed[]> {
  const found = unwrap(await addon().predictUnetMemory(model, question));
  const weights = { what: 'weights', bytes: BYTES * found.weights };
  if (question.trained === 'nothing') return [weights, filters(found), activations(found.activations)];
  const ofLora = question.trained === 'lora' ? [{ what: 'LoRA', bytes: BYTES * found.trained }] : [];
  const gradients = { what: 'gradients', bytes: BYTES * found.trained };
  return [weights, ...ofLora, gradients, filters(found), activations(found.activationsAndGradients - found.trained)];
}

async function trainingPhase(recipe: ResolvedRecipe, size: Side): Promise<readonly MemoryNeed[]> {
  const { student, training } = recipe;
  const { train } = student;
  const question: Omit<MemoryQuestion, 'width' | 'height'> = {
    batch: training.batch,
    recompute: training.recompute,
    ...(train === 'unet' ? { trained: 'unet' } : loraQuestion(train)),
  };
  const found = await ofUnet(student.model, size, question);
  // The gradients are not all there while the activations are: only the two together have a peak. With accumulation the
  // gradients of the batches before are.
  const together = training.accumulation > 1 ? found.activations + found.trained : found.activationsAndGradients;
  return [...(await trainingNeeds(recipe)), filters(found), activations(Math.max(0, together - found.trained))];
}

/**
 * What is asked for the activations beside LoRAs: of several, and of their blocks, the largest rank and all layers. Those
 * beside a file's are taken for a usual one's.
 */
function loraQuestion(train: Train): { trained: 'lora'; rank: number; targets: string[] } {
  const made = trainedAdapters(train).flatMap(({ lora }) => (typeof lora === 'string' ? [] : lora));
  const ranks = made.flatMap(({ rank, blocks }) => [rank, ...blocks.flatMap((block) => block.rank ?? [])]);
  const rank = ranks.length === 0 ? USUAL_RANK : Math.max(...ranks);
  const targets = made.flatMap((lora) => lora.targets);
  return { trained: 'lora', rank, targets: targets.length === 0 ? ['transformers'] : targets };
}

async function picturesNeeds(recipe: ResolvedRecipe): Promise<readonly MemoryNeed[]> {
  const { student, sampling } = recipe;
  const { model } = student;
  const encoders = encodersOf(recipe);
  const side = await ownSide(model);
  const [width, height] = sampling?.size ?? [side, side];
  const rows = sampling?.guidance === 1 ? 1 : 2;
  const unet = await ofUnet(model, { width, height }, { batch: rows, trained: 'nothing', recompute: false });
  const decoding = unwrap(await addon().predictVaeMemory(vaeOf(recipe), 'decode', 1, height, width));
  const state = (await trainingNeeds(recipe)).filter(({ what }) => what !== 'gradients');
  return [
    ...state,
    await vaeNeed(recipe),
    { what: 'text encoders', bytes: await weightBytes(encoders, 'text') },
    filters(unet),
    activations(Math.max(unet.activations, decoding)),
  ];
}
