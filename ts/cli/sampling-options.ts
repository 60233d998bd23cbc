import { type Command, Option } from 'commander';
import { inputError } from '../errors.ts';
import type { SamplerKind, Spacing, WeightedAdapter } from '../native/index.ts';
import type { PictureSettings, PromptSyntax, Size, Unconditional } from '../sampling/index.ts';
import { notBuilt } from './not-built.ts';
import { parseAdapter, parseCount, parseFinite, parseNatural, parseShare } from './parse.ts';

const SAMPLERS = ['ddpm', 'ddim', 'euler', 'euler-a', 'dpmpp-2m', 'lcm', 'tcd', 'flow-euler'] as const;
const SPACINGS = ['leading', 'trailing', 'linspace'] as const;

/** What `sample` and `probe sample` share, as commander gives it. */
export interface SamplingOptions {
  readonly negative: string;
  readonly clipSkip: number;
  readonly sampler: SamplerKind;
  readonly spacing?: Spacing;
  readonly karras?: boolean;
  readonly eta?: number;
  readonly steps: number;
  readonly guidance: number;
  readonly guidanceRescale?: number;
  readonly uncond: Unconditional;
  readonly promptSyntax: PromptSyntax;
  readonly embeddings?: string;
  readonly lora: readonly WeightedAdapter[];
}

/** Declares {@link SamplingOptions}. */
export function addSamplingOptions(command: Command, defaults: { readonly promptSyntax: PromptSyntax }): Command {
  return command
    .option('--negative <text>', 'what guidance leads away from', '')
    .option('--clip-skip <n>', 'layers of the text encoder to leave out', parseNatural, 0)
    .addOption(new Option('--sampler <name>', 'how noise is stepped to a picture').choices(SAMPLERS).default('ddim'))
    .addOption(
      new Option(
        '--spacing <name>',
        'how the timesteps are spread (default: leading, with dpmpp-2m linspace, as in diffusers)',
      ).choices(SPACINGS),
    )
    .option('--karras', 'noise levels of Karras et al. (euler, dpmpp-2m)')
    .option('--eta <share>', 'fresh noise, 0 to 1 (ddim: 0 by default; tcd: 0.3)', parseShare)
    .option('--steps <n>', 'number of steps', parseCount, 20)
    .option('--guidance <g>', 'scale of classifier-free guidance; 1 is none and takes half the time', parseFinite, 7.5)
    .option('--guidance-rescale <share>', 'brings guided contrast back to the unguided, 0 to 1', parseShare)
    .addOption(
      new Option('--uncond <kind>', 'an empty negative prompt encoded, or zeros in its place')
        .choices(['encode', 'zeros'])
        .default('encode'),
    )
    .addOption(
      new Option(
        '--prompt-syntax <kind>',
        'weighted: of any length, with (words:1.2) and embedding:name; plain: as it is',
      )
        .choices(['weighted', 'plain'])
        .default(defaults.promptSyntax),
    )
    .option('--embeddings <folder>', 'where embedding:name is read from: NAME.safetensors')
    .option(
      '--lora <file:weight>',
      'an adapter on the model and its text encoders, 1 where no weight is given; several may be given',
      (text: string, previous: readonly WeightedAdapter[]) => [...previous, parseAdapter(text)],
      [],
    );
}

/** The options in the words of `ts/sampling`. */
export function samplingSettings(options: SamplingOptions): Omit<
  PictureSettings,
  'prompt' | 'seed' | 'base' | 'sizes' | keyof Size
> & {
  readonly negative: string;
  readonly unconditional: Unconditional;
  readonly adapters: readonly WeightedAdapter[];
} {
  const { clipSkip, sampler, spacing, karras, eta, steps, guidance, guidanceRescale } = options;
  const { negative, uncond: unconditional, promptSyntax: syntax, embeddings, lora: adapters } = options;
  if (unconditional === 'zeros' && negative !== '') {
    throw inputError('ERR_USAGE', '--uncond zeros takes the place of an empty negative prompt, but one is given', {
      where: '--uncond',
      remedy: 'Leave out --negative or --uncond.',
    });
  }
  if (syntax === 'plain' && embeddings !== undefined) {
    throw inputError('ERR_USAGE', '--embeddings are named in weighted prompts only', {
      where: '--embeddings',
      remedy: 'Add --prompt-syntax weighted.',
    });
  }
  return {
    ...{ negative, unconditional, syntax, embeddings, clipSkip },
    ...{ sampler, spacing, karras, eta, steps, guidance, guidanceRescale, adapters },
  };
}

/** A number format of which only one is built. */
export function requireBuiltDtype({ dtype = 'f32' }: { readonly dtype?: string }): void {
  if (dtype !== 'f32') throw notBuilt(`--dtype ${dtype}`);
}
