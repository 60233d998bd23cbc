import { join } from 'node:path';
import {
  concat,
  type Engine,
  encodePng,
  noise,
  openAdaptedUnet,
  openModel,
  scope,
  Tensor,
  TextEncoder,
  type Unet,
  Vae,
  type WeightedAdapter,
} from '../../ts/native/index.ts';
import { type Conditioning, condition, guided, repeat, sampleLatents, stack } from '../../ts/sampling/index.ts';

/** A model to draw with. */
export interface Artist {
  readonly model: string;
  /** Adapters of the UNet, in order. */
  readonly adapters: readonly WeightedAdapter[];
  readonly guidance: number;
}

/** What every artist draws: the same noise, sampler and steps. */
export interface Subject {
  readonly prompts: readonly string[];
  /** Of the first prompt; each has the next. */
  readonly seed: number;
  readonly steps: number;
}

/** Pictures drawn by one artist. */
export interface Drawn {
  /** Final latents, a row a prompt. */
  readonly latents: readonly Float32Array[];
  /** Of the steps, texts and decoding left out; a mean over the pictures. */
  readonly secondsPerImage: number;
  readonly forwardsPerImage: number;
}

/** Pictures of one forward. */
const BATCH = 16;

/** Draws with euler's method, in batches. */
export async function draw(engine: Engine, artist: Artist, { prompts, seed, steps }: Subject): Promise<Drawn> {
  const { schedule, latentChannels, sampleSize } = await openModel(engine, artist.model);
  if (sampleSize === undefined) throw new Error(`${artist.model}: its UNet states no sample_size`);
  const shape = [latentChannels, sampleSize, sampleSize];
  using text = await TextEncoder.open(engine, artist.model);
  using unet = await openAdaptedUnet(engine, artist.model, artist.adapters);
  const latents: Float32Array[] = [];
  let seconds = 0;
  for (let start = 0; start < prompts.length; start += BATCH) {
    const batch = prompts.slice(start, start + BATCH);
    await scope(async () => {
      const seeds = batch.map((_, index) => BigInt(seed + start + index));
      const predict = await predictor(engine, { text, unet, guidance: artist.guidance }, batch, sampleSize);
      const from = noise(engine, { generator: 'philox', seeds, shape });
      await engine.settled();
      const begun = performance.now();
      const values = await (await sampleLatents({ schedule, sampler: 'euler', steps, noise: from, predict })).toArray();
      seconds += (performance.now() - begun) / 1000;
      const size = values.length / batch.length;
      latents.push(...batch.map((_, row) => values.slice(row * size, (row + 1) * size)));
    });
  }
  const forwardsPerImage = steps * (artist.guidance === 1 ? 1 : 2);
  return { latents, secondsPerImage: seconds / prompts.length, forwardsPerImage };
}

async function predictor(
  engine: Engine,
  { text, unet, guidance }: { readonly text: TextEncoder; readonly unet: Unet; readonly guidance: number },
  prompts: readonly string[],
  sampleSize: number,
) {
  const PIXELS_PER_LATENT = 8;
  const side = sampleSize * PIXELS_PER_LATENT;
  const told = (prompt: string): Promise<Conditioning> =>
    condition(engine, text, prompt, { width: side, height: side });
  const conditions = await Promise.all(prompts.map(told));
  const cond = conditions.reduce(stack);
  const uncond = repeat(await told(''), prompts.length);
  return guided(unet, cond, uncond, guidance);
}

/** One picture of many: a row for each of `rows`, whose latents are decoded by the model's VAE. PNG. */
export async function contactSheet(
  engine: Engine,
  model: string,
  rows: readonly (readonly Float32Array[])[],
): Promise<Uint8Array> {
  const { latentChannels, sampleSize = 0 } = await openModel(engine, model);
  using vae = await Vae.open(engine, join(model, 'vae'));
  const shape = [1, latentChannels, sampleSize, sampleSize];
  return scope(() => {
    const decoded = rows.map((row) =>
      concat(
        row.map((latents) => vae.decode(Tensor.fromArray(engine, latents, shape))),
        3,
      ),
    );
    return encodePng(concat(decoded, 2));
  });
}
