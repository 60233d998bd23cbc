import { inputError } from '../errors.ts';
import {
  applyAdapter,
  componentFolder,
  type Engine,
  inspectTensors,
  type Model,
  openModel,
  readTensors,
  type Tensor,
  TextEncoder,
  Unet,
  type WeightedAdapter,
} from '../native/index.ts';
import {
  guided,
  type PictureSettings,
  promptConditions,
  repeat,
  type Size,
  sampleLatents,
  stepNoise,
} from '../sampling/index.ts';

/** Pixels per latent, along each side, of every known VAE; the VAE itself takes no part. */
const DOWNSCALE = 8;

/** Seed of the fresh noise that a file does not give. */
const FRESH_NOISE_SEED = 0n;

/** How to step the noise: a picture's settings but for what the noise decides. */
export interface ProbeSampleSettings extends Omit<PictureSettings, 'seed' | 'base' | keyof Size> {
  readonly adapters: readonly WeightedAdapter[];
  readonly signal?: AbortSignal | undefined;
  readonly onStep?: ((done: number) => void) | undefined;
}

/**
 * Final latents from the unit noise `latents` of a file; every row is conditioned on the same prompt. Fresh noise of the
 * stochastic samplers is the file's `step_noise`, or drawn. As in diffusers, `flow-euler` takes what the model predicts
 * as flow, whatever its configuration says.
 */
export async function probeSample(
  engine: Engine,
  folder: string,
  file: string,
  settings: ProbeSampleSettings,
): Promise<Tensor> {
  const { guidance, guidanceRescale: rescale, steps, sampler, spacing, karras, eta, signal, onStep } = settings;
  const model = await openModel(engine, folder);
  const { noise, fresh } = await readNoise(engine, file, model, steps);
  const [batch = 0, , height = 0, width = 0] = noise.shape;
  const encoder = await TextEncoder.open(engine, folder);
  const unet = await Unet.open(engine, componentFolder(model, 'unet'));
  for (const adapter of settings.adapters) await applyAdapter(adapter, folder, { unet, text: encoder });
  const size = { height: height * DOWNSCALE, width: width * DOWNSCALE };
  const told = await promptConditions(engine, encoder, { ...settings, ...size }, guidance !== 1);
  const [cond, uncond] = [repeat(told.cond, batch), told.uncond && repeat(told.uncond, batch)];
  return sampleLatents({
    ...{ schedule: model.schedule, sampler, spacing, karras, eta, steps, noise, stepNoise: fresh, signal, onStep },
    predict: guided(unet, cond, uncond, { guidance, rescale }),
    prediction: sampler === 'flow-euler' ? 'flow' : undefined,
  });
}

/** The tensor `latents` of a file, and the noise of every step. */
async function readNoise(
  engine: Engine,
  file: string,
  model: Model,
  steps: number,
): Promise<{ noise: Tensor; fresh: (step: number) => Tensor }> {
  const stored = new Set((await inspectTensors(file)).tensors.map(({ name }) => name));
  const names = stored.has('step_noise') ? ['latents', 'step_noise'] : ['latents'];
  const tensors = await readTensors(engine, file, names);
  const noise = tensors.get('latents');
  const [batch = 0, channels = 0, ...sides] = noise?.shape ?? [];
  if (noise === undefined || noise.shape.length !== 4 || channels !== model.latentChannels) {
    throw inputError('ERR_TENSOR_SHAPE', `the tensor latents has the shape [${noise?.shape.join(', ')}]`, {
      where: file,
      remedy: `Store unit noise of shape [B, ${model.latentChannels}, h, w].`,
    });
  }
  const row = [channels, ...sides];
  const given = tensors.get('step_noise');
  if (given === undefined) {
    const seeds = Array.from({ length: batch }, (_, at) => FRESH_NOISE_SEED + BigInt(at));
    return { noise, fresh: stepNoise(engine, seeds, row) };
  }
  const perRow = given.shape.length === 5;
  const wanted = perRow ? [steps, batch, ...row] : [steps, ...row];
  if (given.shape.join() !== wanted.join()) {
    throw inputError('ERR_TENSOR_SHAPE', `the tensor step_noise has the shape [${given.shape.join(', ')}]`, {
      where: file,
      remedy: `Store [${[steps, ...row].join(', ')}] for all rows, or [${[steps, batch, ...row].join(', ')}].`,
    });
  }
  return {
    noise,
    fresh: (step) =>
      given
        .slice(0, step, 1)
        .reshape([perRow ? batch : 1, ...row])
        .broadcast(noise.shape),
  };
}
