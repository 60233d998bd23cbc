import { type Command, Option } from 'commander';
import type { SamplerKind, Spacing } from '../native/index.ts';
import { notBuilt } from './not-built.ts';
import { parseCount, parseFinite } from './parse.ts';

/** Samplers of the design; those not built exit with 2. */
const SAMPLERS = ['ddim', 'euler', 'euler-a', 'dpmpp-2m', 'lcm', 'tcd', 'flow-euler'] as const;
const SPACINGS = ['leading', 'trailing', 'linspace'] as const;

/** What `sample` and `probe sample` share, as commander gives it. */
export interface SamplingOptions {
  readonly sampler: (typeof SAMPLERS)[number];
  readonly spacing?: Spacing;
  readonly karras?: boolean;
  readonly steps: number;
  readonly guidance: number;
  readonly lora?: string;
}

/** Declares {@link SamplingOptions}. */
export function addSamplingOptions(command: Command): Command {
  return command
    .addOption(new Option('--sampler <name>', 'how noise is stepped to a picture').choices(SAMPLERS).default('ddim'))
    .addOption(
      new Option('--spacing <name>', 'how the timesteps are spread (default: leading, as in diffusers)').choices(
        SPACINGS,
      ),
    )
    .addOption(new Option('--karras', 'noise levels of Karras et al.').hideHelp())
    .option('--steps <n>', 'number of steps', parseCount, 20)
    .option('--guidance <g>', 'scale of classifier-free guidance; 1 is none and takes half the time', parseFinite, 7.5)
    .addOption(new Option('--lora <file:scale>').hideHelp());
}

/**
 * The built part of the choices.
 *
 * @throws PotstillError naming the first that is not built
 */
export function builtSampler(options: SamplingOptions): { kind: SamplerKind; spacing: Spacing | undefined } {
  if (options.lora !== undefined) throw notBuilt('--lora');
  if (options.karras === true) throw notBuilt('--karras');
  const { sampler: kind, spacing } = options;
  if (kind !== 'ddim' && kind !== 'euler') throw notBuilt(`--sampler ${kind}`);
  return { kind, spacing };
}

/** Options that name a device or a number format of which only one is built. */
export function requireBuiltDevice(options: { readonly device?: string; readonly dtype?: string }): void {
  const { device = 'cpu', dtype = 'f32' } = options;
  if (device !== 'cpu') throw notBuilt(`--device ${device}`);
  if (dtype !== 'f32') throw notBuilt(`--dtype ${dtype}`);
}
