import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { inputError } from '../errors.ts';
import { requireModelMemory } from '../machine/index.ts';
import {
  componentFolder,
  type Engine,
  encodePng,
  keep,
  type SamplerKind,
  type Spacing,
  scope,
  type Tensor,
  Unet,
} from '../native/index.ts';
import type { Progress } from '../progress.ts';
import { writeAtomic } from '../write-atomic.ts';
import { grid } from './grid.ts';
import { describe, PARAMETERS, Painter, type PictureSettings } from './painter.ts';
import { withText } from './png-text.ts';

/** What `potstill sample` was asked for. */
export interface SampleRequest {
  readonly folder: string;
  /** A VAE's folder, or that of a model which has one. */
  readonly vae: string | undefined;
  readonly prompts: readonly string[];
  readonly negative: string;
  readonly seeds: readonly bigint[];
  readonly sampler: SamplerKind;
  readonly spacing: Spacing | undefined;
  readonly steps: number;
  readonly guidance: number;
  readonly clipSkip: number;
  readonly size: { readonly width: number; readonly height: number } | undefined;
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
  readonly seconds: number;
}

/** What was written. */
export interface SampledPictures {
  readonly images: readonly SampledImage[];
  readonly grid?: string;
}

/** Paints every prompt with every seed into PNG files; each appears whole or not at all. */
export async function samplePictures(engine: Engine, request: SampleRequest): Promise<SampledPictures> {
  const { prompts, seeds, negative, sampler, spacing, steps, guidance, clipSkip, out, progress, signal } = request;
  const ownVae = request.vae === undefined ? (['vae'] as const) : [];
  await requireModelMemory(request.folder, ['unet', 'text', ...ownVae]);
  using painter = await Painter.open(engine, request.folder, { vae: vaeFolder(request.vae) });
  const { model, defaultSize } = painter;
  const { width, height } = request.size ?? { width: defaultSize, height: defaultSize };
  painter.noise(0n, { width, height }).dispose(); // refuses a size before the UNet is read
  using unet = await Unet.open(engine, componentFolder(model, 'unet'));
  const networks = [{ unet, weight: 1, prediction: model.prediction }];

  const images: SampledImage[] = [];
  const pictures: Tensor[] = [];
  using task = progress.start('sampling', { total: prompts.length * seeds.length * steps, unit: 'steps' });
  for (const [row, prompt] of prompts.entries()) {
    for (const seed of seeds) {
      const settings = { prompt, negative, sampler, spacing, steps, guidance, clipSkip, seed, width, height };
      const file = join(out, `${fileName(row, prompt)}-${seed}.png`);
      const start = performance.now();
      const pixels = await scope(async () =>
        painter.decode(await painter.latents(networks, settings, { signal, onStep: () => task.advance() })),
      );
      await requireFinite(pixels, request.folder);
      await writeAtomic(file, await png(pixels, settings));
      images.push({ file, prompt, seed: String(seed), seconds: (performance.now() - start) / 1000 });
      if (request.grid) pictures.push(keep(pixels));
      else pixels.dispose();
    }
  }
  task.end();
  if (!request.grid) return { images };
  const file = join(out, 'grid.png');
  await scope(async () => writeAtomic(file, await encodePng(grid(pictures, seeds.length))));
  for (const picture of pictures) picture.dispose();
  return { images, grid: file };
}

async function png(pixels: Tensor, settings: PictureSettings): Promise<Uint8Array> {
  return withText(await encodePng(pixels), PARAMETERS, describe(settings));
}

/** Damaged weights show here first. */
async function requireFinite(pixels: Tensor, folder: string): Promise<void> {
  if (Number.isFinite(await scope(() => pixels.mean().item()))) return;
  throw inputError('ERR_SAMPLE_NOT_FINITE', 'the picture has values that are not finite', {
    where: folder,
    remedy: "The model's weights are damaged, or --guidance is far too high.",
  });
}

/** A VAE's component folder. */
function vaeFolder(folder: string | undefined): string | undefined {
  if (folder === undefined) return undefined;
  const inside = componentFolder({ folder }, 'vae');
  return existsSync(inside) ? inside : folder;
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
