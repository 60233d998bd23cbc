import { join } from 'node:path';
import { inputError } from '../errors.ts';
import { type ModelPart, requireModelMemory } from '../machine/index.ts';
import {
  componentFolder,
  type Engine,
  encodePng,
  keep,
  type Model,
  openModel,
  type Precision,
  type PredictionKind,
  type Schedule,
  scope,
  Tensor,
  Unet,
  vaePath,
  type WeightedAdapter,
} from '../native/index.ts';
import type { Progress } from '../progress.ts';
import { writeAtomic } from '../write-atomic.ts';
import type { Size } from './conditioning.ts';
import { grid } from './grid.ts';
import { Painter, type VaeTiling, type WeightedUnet } from './painter.ts';
import { modelName, pictureModel } from './picture-model.ts';
import { type PictureModels, withPictureText } from './picture-text.ts';
import type { BaseSteps, PictureSettings } from './settings.ts';

/** What `potstill sample` was asked for. */
export interface SampleRequest extends Omit<PictureSettings, 'prompt' | 'seed' | 'width' | 'height' | 'base'> {
  readonly folder: string;
  /** A VAE's folder, or that of a model which has one. */
  readonly vae: string | undefined;
  /** On the model, not on the base. */
  readonly adapters: readonly WeightedAdapter[];
  readonly prompts: readonly string[];
  readonly seeds: readonly bigint[];
  readonly size: Size | undefined;
  /** Who makes the first steps. */
  readonly base: (BaseSteps & { readonly folder: string }) | undefined;
  /** What the UNets' matrices are kept and multiplied in; the text encoders and the VAE are f32. */
  readonly dtype: Precision;
  /** Most pictures of a prompt to make at once. */
  readonly batch: number;
  readonly vaeTiling: VaeTiling;
  /** Also all pictures in one? */
  readonly grid: boolean;
  readonly out: string;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

/** A picture that was written. */
export interface SampledImage {
  readonly file: string;
  readonly prompt: string;
  /** A string, for JSON's numbers do not hold 64 bits. */
  readonly seed: string;
  /** Its share of the batch's time. */
  readonly seconds: number;
}

/** What was written. */
export interface SampledPictures {
  readonly images: readonly SampledImage[];
  readonly grid?: string;
}

/** Paints every prompt with every seed into PNG files; each appears whole or not at all. */
export async function samplePictures(engine: Engine, request: SampleRequest): Promise<SampledPictures> {
  const { prompts, seeds, steps, out, progress, signal } = request;
  const vae = request.vae && vaePath(request.vae);
  const { folder, base, dtype } = request;
  const parts: ModelPart[] = [
    { model: folder, part: 'unet', dtype },
    { model: folder, part: 'text' },
    { model: vae ?? folder, part: 'vae' },
    ...(base === undefined ? [] : [{ model: base.folder, part: 'unet' as const, what: 'base', dtype }]),
  ];
  await requireModelMemory(parts, engine.device);
  using painter = await Painter.open(engine, request.folder, { vae });
  const { model, defaultSize } = painter;
  refuseSizes(model, request);
  const { width, height } = request.size ?? { width: defaultSize, height: defaultSize };
  painter.noise(0n, { width, height }).dispose(); // refuses a size before the UNet is read
  using networks = await Networks.open(engine, model, request.base?.folder, dtype);
  for (const { unet } of networks.all) await painter.apply(request.adapters, unet);
  const models: PictureModels = {
    kind: model.kind,
    dtype,
    model: await pictureModel(request.folder, signal),
    base: request.base && (await pictureModel(request.base.folder, signal)),
    vae: request.vae === undefined ? undefined : { name: modelName(request.vae) },
    adapters: await Promise.all(
      request.adapters.map(async ({ file, weight }) => ({ ...(await pictureModel(file, signal)), weight })),
    ),
  };

  const images: SampledImage[] = [];
  const pictures: Tensor[] = [];
  using task = progress.start('sampling', { total: prompts.length * seeds.length * steps, unit: 'steps' });
  for (const [row, prompt] of prompts.entries()) {
    for (const batch of batches(seeds, request.batch)) {
      const start = performance.now();
      const settings = pictureSettings(request, { prompt, seed: batch[0] ?? 0n, width, height });
      const rows = await scope(async () => {
        const onStep = (): void => task.advance(batch.length);
        const latents = await painter.latents(networks.all, settings, {
          ...{ seeds: batch, base: networks.base, signal, onStep },
        });
        // One at a time: decoding needs more memory than all the steps.
        return batch.map((_, at) => painter.decode(latents.slice(0, at, 1), request.vaeTiling));
      });
      for (const [at, pixels] of rows.entries()) {
        const seed = batch[at] ?? 0n;
        const file = join(out, `${fileName(row, prompt)}-${seed}.png`);
        await requireFinite(pixels, request.folder);
        await writeAtomic(file, withPictureText(await encodePng(pixels), { ...settings, seed }, models));
        const seconds = (performance.now() - start) / 1000 / batch.length;
        images.push({ file, prompt, seed: String(seed), seconds });
        if (request.grid) pictures.push(keep(pixels));
        else pixels.dispose();
      }
    }
  }
  task.end();
  if (!request.grid) return { images };
  const file = join(out, 'grid.png');
  await scope(async () => writeAtomic(file, await encodePng(grid(pictures, seeds.length))));
  for (const picture of pictures) picture.dispose();
  return { images, grid: file };
}

/** A choice that a model has no ear for is an error, not ignored. */
function refuseSizes({ folder, kind }: Model, { sizes }: SampleRequest): void {
  if (kind === 'sdxl' || Object.values(sizes ?? {}).every((size) => size === undefined)) return;
  throw inputError('ERR_USAGE', 'SDXL models alone are told sizes, and this is one of the SD1.5 family', {
    where: folder,
    remedy: 'Leave out --original-size, --crop and --target-size.',
  });
}

/** The UNet of the model and, for hybrid sampling, that of the base. */
class Networks implements Disposable {
  readonly all: readonly WeightedUnet[];
  readonly base: readonly WeightedUnet[] | undefined;
  readonly #unets: readonly Unet[];

  private constructor(all: WeightedUnet, base: WeightedUnet | undefined) {
    this.all = [all];
    this.base = base && [base];
    this.#unets = base === undefined ? [all.unet] : [all.unet, base.unet];
  }

  /**
   * @throws PotstillError when the base is of another family, so that it cannot read the model's text or latents, or has
   * another noise schedule, so that a timestep is not the same noise to both
   */
  static async open(engine: Engine, model: Model, baseFolder: string | undefined, dtype: Precision): Promise<Networks> {
    const network = async (folder: string, prediction: PredictionKind): Promise<WeightedUnet> => {
      return { unet: await Unet.open(engine, componentFolder({ folder }, 'unet'), dtype), weight: 1, prediction };
    };
    if (baseFolder === undefined) return new Networks(await network(model.folder, model.prediction), undefined);
    const base = await openModel(engine, baseFolder);
    using schedule = base.schedule;
    const family = ({ kind, latentChannels, textWidth }: Model): string => `${kind}/${latentChannels}/${textWidth}`;
    if (family(base) !== family(model)) {
      throw inputError(
        'ERR_BASE_MODEL',
        `the base is of another family (${base.kind}) than the model (${model.kind})`,
        {
          where: baseFolder,
          remedy: 'Take the model that the student was distilled from.',
        },
      );
    }
    if (!(await sameLevels(engine, schedule, model.schedule))) {
      throw inputError('ERR_BASE_SCHEDULE', "the base's noise schedule is not the model's", {
        where: baseFolder,
        remedy:
          'Its steps would be told other amounts of noise than there are. Take the model that the student was distilled ' +
          'from, with the same scheduler_config.json (betas, rescale_betas_zero_snr).',
      });
    }
    const first = await network(model.folder, model.prediction);
    try {
      return new Networks(first, await network(baseFolder, base.prediction));
    } catch (thrown) {
      first.unet.dispose();
      throw thrown;
    }
  }

  [Symbol.dispose](): void {
    for (const unet of this.#unets) unet.dispose();
  }
}

/** Whether every timestep has the same amount of noise in both. */
async function sameLevels(engine: Engine, a: Schedule, b: Schedule): Promise<boolean> {
  if (a.timesteps !== b.timesteps) return false;
  const count = a.timesteps;
  const timesteps = Float64Array.from({ length: count }, (_, timestep) => timestep);
  const levels = (schedule: Schedule): Promise<readonly Float32Array[]> =>
    scope(async () => {
      const [ones, zeros] = [1, 0].map((value) =>
        Tensor.fromArray(engine, new Float32Array(count).fill(value), [count, 1, 1, 1]),
      ) as [Tensor, Tensor];
      const [signal, noise] = [schedule.addNoise(ones, zeros, timesteps), schedule.addNoise(zeros, ones, timesteps)];
      return [await signal.toArray(), await noise.toArray()];
    });
  const [first, second] = [await levels(a), await levels(b)];
  return first.every((values, at) => values.every((value, timestep) => value === second[at]?.[timestep]));
}

/** One picture's settings, without what only `potstill sample` needs. */
function pictureSettings(
  request: SampleRequest,
  own: { readonly prompt: string; readonly seed: bigint } & Size,
): PictureSettings {
  const { negative, syntax, embeddings, unconditional, clipSkip, sampler, spacing, karras, eta } = request;
  const { steps, guidance, guidanceRescale, sizes, base } = request;
  return {
    ...{ negative, syntax, embeddings, unconditional, clipSkip, sampler, spacing, karras, eta },
    ...{ steps, guidance, guidanceRescale, sizes, ...own },
    base: base && { steps: base.steps, guidance: base.guidance },
  };
}

function batches<T>(items: readonly T[], size: number): readonly (readonly T[])[] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, at) => items.slice(at * size, (at + 1) * size));
}

/** Damaged weights show here first. */
async function requireFinite(pixels: Tensor, folder: string): Promise<void> {
  if (Number.isFinite(await scope(() => pixels.mean().item()))) return;
  throw inputError('ERR_SAMPLE_NOT_FINITE', 'the picture has values that are not finite', {
    where: folder,
    remedy: "The model's weights are damaged, or --guidance is far too high.",
  });
}

/** Characters of a prompt in a file's name: enough to recognise it, short for every file system. */
const NAME_LENGTH = 40;

/** `00-a-red-apple`: the prompt's number and its words. */
function fileName(index: number, prompt: string): string {
  const words = prompt
    .toLowerCase()
    .normalize('NFKD')
    .replace(/\p{M}/gu, '')
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, NAME_LENGTH)
    .replace(/^-+|-+$/g, '');
  return [String(index).padStart(2, '0'), ...(words === '' ? [] : [words])].join('-');
}
