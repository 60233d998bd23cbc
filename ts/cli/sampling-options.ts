import { type Command, Option } from 'commander';
import { inputError } from '../errors.ts';
import type { SamplerKind, Spacing, WeightedAdapter } from '../native/index.ts';
import type { PromptSyntax, Unconditional } from '../sampling/index.ts';
import { notBuilt } from './not-built.ts';
import { parseAdapter, parseCount, parseFinite, parseShare } from './parse.ts';

const SAMPLERS = ['ddpm', 'ddim', 'euler', 'euler-a', 'dpmpp-2m', 'lcm', 'tcd', 'flow-euler'] as const;
const SPACINGS = ['leading', 'trailing', 'linspace'] as const;

/** What `sample` and `probe sample` share, as commander gives it. */
export interface SamplingOptions {
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
export function samplingSettings(options: SamplingOptions): {
  readonly sampler: SamplerKind;
  readonly spacing: Spacing | undefined;
  readonly karras: boolean | undefined;
  readonly eta: number | undefined;
  readonly steps: number;
  readonly guidance: number;
  readonly guidanceRescale: number | undefined;
  readonly unconditional: Unconditional;
  readonly syntax: PromptSyntax;
  readonly embeddings: string | undefined;
  readonly adapters: readonly WeightedAdapter[];
} {
  const { sampler, spacing, karras, eta, steps, guidance, guidanceRescale } = options;
  const { uncond: unconditional, promptSyntax: syntax, embeddings, lora: adapters } = options;
  if (syntax === 'plain' && embeddings !== undefined) {
    throw inputError('ERR_USAGE', '--embeddings are named in weighted prompts only', {
      where: '--embeddings',
      remedy: 'Add --prompt-syntax weighted.',
    });
  }
  return {
    ...{ sampler, spacing, karras, eta, steps, guidance, guidanceRescale },
    ...{ unconditional, syntax, embeddings, adapters },
  };
}

/** Options that name a device or a number format of which only one is built. */
export function requireBuiltDevice(options: { readonly device?: string; readonly dtype?: string }): void {
  const { device = 'cpu', dtype = 'f32' } = options;
  if (device !== 'cpu') throw notBuilt(`--device ${device}`);
  if (dtype !== 'f32') throw notBuilt(`--dtype ${dtype}`);
}
