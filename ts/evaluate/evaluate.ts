import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isAdapter } from '../adapter/index.ts';
import { inputError } from '../errors.ts';
import {
  applyUnetAdapter,
  componentFolder,
  type Engine,
  encodePng,
  type Model,
  noise,
  openModel,
  type SamplerKind,
  scope,
  Tensor,
  TextEncoder,
  Unet,
  Vae,
} from '../native/index.ts';
import type { Progress } from '../progress.ts';
import {
  asKind,
  averaged,
  type Conditioning,
  guided,
  sampleLatents,
  sizeIds,
  type WeightedUnet,
} from '../sampling/index.ts';
import { distance, type LatentTriple } from './distance.ts';
import type { EvaluatedModel, Evaluation } from './evaluation.ts';

/** A prompt to draw, and whether it was kept out of training. */
export interface EvaluatedPrompt {
  readonly text: string;
  readonly heldOut: boolean;
}

/** What to compare, and how. */
export interface EvaluateOptions {
  readonly engine: Engine;
  /** Model with the text encoders, VAE and schedule of all three, whose UNet is the undistilled one. */
  readonly base: string;
  /** Folder of the student's UNet, or an adapter of the UNet alone that makes the student of the base. */
  readonly student: string;
  readonly teachers: readonly { readonly model: string; readonly weight: number }[];
  /** Guidance of the teachers; student and undistilled model run at 1. */
  readonly guidance: number;
  readonly prompts: readonly EvaluatedPrompt[];
  /** Each prompt is drawn with every seed; the prompt's index is added, so that no two start from the same noise. */
  readonly seeds: readonly number[];
  readonly sampler: SamplerKind;
  readonly steps: number;
  /** Pictures of so many of the prompts of either kind are kept; the distance is over all. */
  readonly pictures: number;
  /** Folder for `evaluation.json` and the pictures. */
  readonly out: string;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

/** Pictures drawn in one forward: enough to keep two cores busy, few enough for any memory. */
const BATCH = 16;

/** Of every known VAE. */
const PIXELS_PER_LATENT = 8;

/** A model as evaluation sees it. */
interface Contender {
  readonly id: EvaluatedModel['id'];
  readonly label: string;
  readonly guidance: number;
  readonly networks: readonly WeightedUnet[];
}

/** One picture to draw: the same for all models. */
interface Subject {
  readonly prompt: number;
  readonly seed: number;
}

/**
 * Draws the same prompts from the same noise with the guided teachers, the student and the undistilled model, measures
 * the student's distance, and writes `evaluation.json` with pictures.
 *
 * Several teachers act as one: their guided predictions are averaged by weight at every step, as in training.
 *
 * @throws PotstillError when a model cannot be read or is of another kind
 */
export async function evaluate(options: EvaluateOptions): Promise<Evaluation> {
  const { engine, base, prompts, seeds, progress, signal, out } = options;
  return scope(async () => {
    const model = await openModel(engine, base);
    const text = await TextEncoder.open(engine, base);
    const vae = await Vae.open(engine, componentFolder(model, 'vae'));
    const contenders = await openContenders(options, model);
    const side = model.sampleSize;
    if (side === undefined) {
      throw inputError('ERR_MODEL_SIZE', 'states no sample_size', {
        where: join(base, 'unet', 'config.json'),
        remedy: 'Add the side of the latents that the model was made for.',
      });
    }
    const shape = [model.latentChannels, side, side];
    const subjects = prompts.flatMap((_, prompt) => seeds.map((seed) => ({ prompt, seed: seed + prompt })));
    const latents = new Map<EvaluatedModel['id'], Float32Array[]>();
    const models: EvaluatedModel[] = [];
    using task = progress.start('drawing', { total: subjects.length * contenders.length, unit: 'pictures' });
    for (const contender of contenders) {
      task.note(contender.label);
      const drawn: Float32Array[] = [];
      let seconds = 0;
      for (let start = 0; start < subjects.length; start += BATCH) {
        signal.throwIfAborted();
        const batch = subjects.slice(start, start + BATCH);
        const { rows, seconds: spent } = await draw(contender, batch, { ...options, model, text, shape });
        drawn.push(...rows);
        seconds += spent;
        task.advance(batch.length);
      }
      latents.set(contender.id, drawn);
      models.push(described(contender, options.steps, seconds / subjects.length));
    }
    const of = (id: EvaluatedModel['id'], index: number): Float32Array =>
      latents.get(id)?.[index] ?? new Float32Array();
    const triples = subjects.map(
      ({ prompt }, index): LatentTriple => ({
        heldOut: prompts[prompt]?.heldOut ?? false,
        teacher: of('teacher', index),
        student: of('student', index),
        undistilled: of('undistilled', index),
      }),
    );
    const { rms, ...distances } = distance(triples);
    await mkdir(out, { recursive: true });
    const images = await savePictures(options, subjects, latents, vae, shape);
    const evaluation: Evaluation = {
      version: 1,
      sampler: options.sampler,
      steps: options.steps,
      size: [side * vae.downscale, side * vae.downscale],
      seeds: [...seeds],
      prompts: prompts.map(({ text: words, heldOut }) => ({ text: words, heldOut })),
      models,
      distance: distances,
      rms,
      images,
    };
    await writeFile(join(out, 'evaluation.json'), `${JSON.stringify(evaluation, undefined, 2)}\n`);
    return evaluation;
  });
}

async function openContenders(
  { engine, base, student, teachers, guidance }: EvaluateOptions,
  { prediction }: Model,
): Promise<Contender[]> {
  const network = async (folder: string): Promise<WeightedUnet> => ({
    unet: await Unet.open(engine, folder),
    weight: 1,
    prediction,
  });
  const studentNetwork = async (): Promise<WeightedUnet> => {
    if (!(await isAdapter(student))) return network(student);
    const adapted = await network(join(base, 'unet'));
    await applyUnetAdapter({ file: student, weight: 1 }, base, adapted.unet);
    return adapted;
  };
  const guides: WeightedUnet[] = [];
  for (const { model, weight } of teachers) {
    const { prediction: kind } = await openModel(engine, model);
    guides.push({ ...(await network(join(model, 'unet'))), weight, prediction: kind });
  }
  const label = teachers.length === 1 ? 'Teacher' : `${teachers.length} teachers`;
  return [
    { id: 'teacher', label, guidance, networks: guides },
    { id: 'student', label: 'Student', guidance: 1, networks: [await studentNetwork()] },
    { id: 'undistilled', label: 'Undistilled', guidance: 1, networks: [await network(join(base, 'unet'))] },
  ];
}

interface DrawOptions extends EvaluateOptions {
  readonly model: Model;
  readonly text: TextEncoder;
  readonly shape: readonly number[];
}

/** Final latents of a batch, a row each, and the seconds that the steps took. */
async function draw(
  { guidance, networks }: Contender,
  subjects: readonly Subject[],
  { engine, model, text, shape, prompts, sampler, steps, signal }: DrawOptions,
): Promise<{ rows: Float32Array[]; seconds: number }> {
  const { schedule, prediction } = model;
  return scope(async () => {
    const words = subjects.map(({ prompt }) => prompts[prompt]?.text ?? '');
    const cond = await condition(text, words, shape);
    const empty = words.map(() => '');
    const uncond = guidance === 1 ? undefined : await condition(text, empty, shape);
    const seeds = subjects.map(({ seed }) => BigInt(seed));
    const predict = averaged(
      networks.map(({ unet, weight, prediction: kind }) => ({
        predict: asKind(guided(unet, cond, uncond, guidance), kind, prediction, schedule),
        weight,
      })),
    );
    const start = noise(engine, { generator: 'philox', seeds, shape });
    await engine.settled();
    const begun = performance.now();
    const values = await (await sampleLatents({ schedule, sampler, steps, noise: start, predict, signal })).toArray();
    const seconds = (performance.now() - begun) / 1000;
    const size = values.length / subjects.length;
    return { rows: subjects.map((_, row) => values.subarray(row * size, (row + 1) * size)), seconds };
  });
}

async function condition(
  text: TextEncoder,
  prompts: readonly string[],
  shape: readonly number[],
): Promise<Conditioning> {
  const { encoderHiddenStates, pooled: textEmbeds } = await text.encode(prompts);
  if (textEmbeds === undefined) return { encoderHiddenStates };
  const [, height = 0, width = 0] = shape.map((side) => side * PIXELS_PER_LATENT);
  const timeIds = sizeIds(text.engine, { width, height }).broadcast([prompts.length, 6]);
  return { encoderHiddenStates, textEmbeds, timeIds };
}

function described(
  { id, label, guidance, networks }: Contender,
  steps: number,
  secondsPerImage: number,
): EvaluatedModel {
  const forwardsPerImage = steps * networks.length * (guidance === 1 ? 1 : 2);
  return { id, label, guidance, forwardsPerImage, secondsPerImage };
}

async function savePictures(
  { engine, prompts, pictures, out }: EvaluateOptions,
  subjects: readonly Subject[],
  latents: ReadonlyMap<EvaluatedModel['id'], readonly Float32Array[]>,
  vae: Vae,
  shape: readonly number[],
): Promise<Evaluation['images']> {
  const images: Evaluation['images'] = [];
  for (const prompt of [...spread(prompts, false, pictures), ...spread(prompts, true, pictures)]) {
    const index = subjects.findIndex((subject) => subject.prompt === prompt);
    const { seed } = subjects[index] ?? { seed: 0 };
    const save = async (id: EvaluatedModel['id']): Promise<string> => {
      const file = `${String(prompt).padStart(3, '0')}-${seed}-${id}.png`;
      const row = latents.get(id)?.[index] ?? new Float32Array();
      const png = await scope(() => encodePng(vae.decode(Tensor.fromArray(engine, row, [1, ...shape]))));
      await writeFile(join(out, file), png);
      return file;
    };
    const files = {
      teacher: await save('teacher'),
      student: await save('student'),
      undistilled: await save('undistilled'),
    };
    images.push({ prompt, seed, files });
  }
  return images;
}

/** Indices of so many prompts of a kind, evenly spread over all of it. */
function spread(prompts: readonly EvaluatedPrompt[], heldOut: boolean, count: number): number[] {
  const indices = [...prompts.keys()].filter((index) => prompts[index]?.heldOut === heldOut);
  const shown = Math.min(count, indices.length);
  return Array.from({ length: shown }, (_, at) => indices[Math.floor(((at + 0.5) * indices.length) / shown)] ?? 0);
}
