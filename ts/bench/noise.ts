import { type Engine, type NoiseGenerator, noise } from '../native/index.ts';

/** Latents of 64 pictures of 512². */
export const NOISE_SHAPE = [64, 4, 64, 64] as const;
/** Any will do. */
export const NOISE_SEED = 42n;

/** Seconds that one tensor of noise takes until it can be read. */
export async function drawNoise(engine: Engine, generator: NoiseGenerator): Promise<number> {
  const begun = performance.now();
  const tensor = noise(engine, { generator, seeds: [NOISE_SEED], shape: NOISE_SHAPE });
  await engine.settled();
  const seconds = (performance.now() - begun) / 1000;
  tensor.dispose();
  return seconds;
}
