import { inputError } from '../errors.ts';
import {
  componentFolder,
  type Engine,
  openModel,
  readTensors,
  type SamplerKind,
  type Spacing,
  type Tensor,
  TextEncoder,
  Unet,
} from '../native/index.ts';
import { type Conditioning, guided, repeat, sampleLatents, wholePictureTimeIds } from '../sampling/index.ts';

/** Pixels per latent, along each side, of every known VAE; the VAE itself takes no part. */
const DOWNSCALE = 8;

/** How to step the noise. */
export interface ProbeSampleSettings {
  readonly prompt: string;
  readonly negative: string;
  /** What stands for an empty negative prompt. */
  readonly uncond: 'encode' | 'zeros';
  readonly sampler: SamplerKind;
  readonly spacing: Spacing | undefined;
  readonly steps: number;
  readonly guidance: number;
  readonly signal?: AbortSignal | undefined;
  readonly onStep?: ((done: number) => void) | undefined;
}

/** Final latents from the unit noise `latents` of a file; every row is conditioned on the same prompt. */
export async function probeSample(
  engine: Engine,
  folder: string,
  file: string,
  settings: ProbeSampleSettings,
): Promise<Tensor> {
  const { prompt, negative, uncond, guidance, steps, spacing, signal, onStep } = settings;
  if (uncond === 'zeros' && negative !== '') {
    throw inputError('ERR_USAGE', '--uncond zeros takes the place of an empty negative prompt, but one is given', {
      where: '--uncond',
      remedy: 'Leave out --negative or --uncond.',
    });
  }
  const model = await openModel(engine, folder);
  const noise = (await readTensors(engine, file, ['latents'])).get('latents');
  const [batch = 0, channels = 0, height = 0, width = 0] = noise?.shape ?? [];
  if (noise === undefined || noise.shape.length !== 4 || channels !== model.latentChannels) {
    const shape = `[B, ${model.latentChannels}, h, w]`;
    throw inputError('ERR_TENSOR_SHAPE', `the tensor latents has the shape [${noise?.shape.join(', ')}]`, {
      where: file,
      remedy: `Store unit noise of shape ${shape}.`,
    });
  }
  const encoder = await TextEncoder.open(engine, folder);
  const condition = async (text: string, scale = 1): Promise<Conditioning> => {
    const { encoderHiddenStates, pooled } = await encoder.encode([text]);
    const row = {
      encoderHiddenStates: encoderHiddenStates.scale(scale),
      textEmbeds: pooled?.scale(scale),
      timeIds: pooled && wholePictureTimeIds(engine, height * DOWNSCALE, width * DOWNSCALE),
    };
    return repeat(row, batch);
  };
  const cond = await condition(prompt);
  const away = guidance === 1 ? undefined : await condition(negative, uncond === 'zeros' ? 0 : 1);
  const unet = await Unet.open(engine, componentFolder(model, 'unet'));
  const predict = guided(unet, cond, away, guidance);
  return sampleLatents({
    ...{ schedule: model.schedule, sampler: settings.sampler, spacing, steps, noise, predict, signal, onStep },
  });
}
