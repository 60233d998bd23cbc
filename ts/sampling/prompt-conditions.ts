import { inputError } from '../errors.ts';
import type { Engine, TextEncoder } from '../native/index.ts';
import { type Conditioning, type Size, sizeIds, withoutText } from './conditioning.ts';
import type { PictureSettings } from './settings.ts';

/** How a prompt becomes conditioning; `syntax` is `plain` by default, which is what training and evaluation encode. */
export type PromptOptions = Pick<PictureSettings, 'syntax' | 'embeddings' | 'clipSkip' | 'sizes'>;

/** Conditioning of a prompt for pictures of a size, one row. */
export async function condition(
  engine: Engine,
  encoder: TextEncoder,
  prompt: string,
  size: Size,
  { syntax = 'plain', embeddings, clipSkip, sizes }: PromptOptions = {},
): Promise<Conditioning> {
  const { encoderHiddenStates, pooled: textEmbeds } =
    syntax === 'plain'
      ? await encoder.encode([prompt], clipSkip)
      : await encoder.encodeWeighted(prompt, { clipSkip, embeddings });
  return { encoderHiddenStates, textEmbeds, timeIds: textEmbeds && sizeIds(engine, size, sizes) };
}

/**
 * What a picture's settings tell a UNet, one row each: the prompt and, where it is guided, what guidance leads away from.
 * Prompts are weighted unless the settings say otherwise.
 *
 * @throws PotstillError when zeros are to stand for a negative prompt that is not empty
 */
export async function promptConditions(
  engine: Engine,
  encoder: TextEncoder,
  settings: PromptOptions & Pick<PictureSettings, 'prompt' | 'negative' | 'unconditional'> & Size,
  isGuided: boolean,
): Promise<{ cond: Conditioning; uncond: Conditioning | undefined }> {
  const {
    prompt,
    negative = '',
    unconditional = 'encode',
    syntax = 'weighted',
    embeddings,
    clipSkip,
    sizes,
  } = settings;
  if (unconditional === 'zeros' && negative !== '') {
    throw inputError('ERR_USAGE', 'zeros take the place of an empty negative prompt, but one is given', {
      where: 'unconditional',
      remedy: 'Leave out the negative prompt, or encode it.',
    });
  }
  const options = { syntax, embeddings, clipSkip, sizes };
  const cond = await condition(engine, encoder, prompt, settings, options);
  if (!isGuided) return { cond, uncond: undefined };
  const empty = await condition(engine, encoder, negative, settings, options);
  return { cond, uncond: unconditional === 'zeros' ? withoutText(empty) : empty };
}
