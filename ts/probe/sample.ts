import { inputError } from '../errors.ts';
import {
  applyAdapter,
  componentFolder,
  type Engine,
  inspectTensors,
  type Model,
  openModel,
  readTensors,
  type SamplerKind,
  type Spacing,
  type Tensor,
  TextEncoder,
  Unet,
  type WeightedAdapter,
} from '../native/index.ts';
import {
  type Conditioning,
  guided,
  type PromptSyntax,
  repeat,
  sampleLatents,
  sizeIds,
  stepNoise,
  type Unconditional,
  withoutText,
} from '../sampling/index.ts';

/** Pixels per latent, along each side, of every known VAE; the VAE itself takes no part. */
const DOWNSCALE = 8;

/** Seed of the fresh noise that a file does not give. */
const FRESH_NOISE_SEED = 0n;

/** How to step the noise. */
export interface ProbeSampleSettings {
  readonly prompt: string;
  readonly negative: string;
  readonly syntax: PromptSyntax;
  readonly embeddings?: string | undefined;
  readonly clipSkip: number;
  /** What stands for an empty negative prompt. */
  readonly unconditional: Unconditional;
  readonly sampler: SamplerKind;
  readonly spacing?: Spacing | undefined;
  readonly karras?: boolean | undefined;
  readonly eta?: number | undefined;
  readonly steps: number;
  readonly guidance: number;
  readonly guidanceRescale?: number | undefined;
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
  const { prompt, negative, unconditional, guidance, guidanceRescale: rescale, steps, sampler } = settings;
  if (unconditional === 'zeros' && negative !== '') {
    throw inputError('ERR_USAGE', '--uncond zeros takes the place of an empty negative prompt, but one is given', {
      where: '--uncond',
      remedy: 'Leave out --negative or --uncond.',
    });
  }
  const model = await openModel(engine, folder);
  const { noise, fresh } = await readNoise(engine, file, model, steps);
  const [batch = 0, , height = 0, width = 0] = noise.shape;
  const encoder = await TextEncoder.open(engine, folder);
  const unet = await Unet.open(engine, componentFolder(model, 'unet'));
  for (const adapter of settings.adapters) await applyAdapter(adapter, folder, { unet, text: encoder });
  const condition = async (text: string): Promise<Conditioning> => {
    const { syntax, clipSkip, embeddings } = settings;
    const { encoderHiddenStates, pooled: textEmbeds } =
      syntax === 'plain'
        ? await encoder.encode([text], clipSkip)
        : await encoder.encodeWeighted(text, { clipSkip, embeddings });
    const timeIds = textEmbeds && sizeIds(engine, { height: height * DOWNSCALE, width: width * DOWNSCALE });
    return repeat({ encoderHiddenStates, textEmbeds, timeIds }, batch);
  };
  const cond = await condition(prompt);
  const empty = guidance === 1 ? undefined : await condition(negative);
  const uncond = empty !== undefined && unconditional === 'zeros' ? withoutText(empty) : empty;
  const { spacing, karras, eta, signal, onStep } = settings;
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
