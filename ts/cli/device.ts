import { InvalidArgumentError, Option } from 'commander';
import { type DeviceName, isDeviceName } from '../device.ts';
import type { Engine } from '../native/index.ts';
import type { Context } from './command.ts';

const NAMES = 'auto, cpu, cuda, or cuda:1 for the second';

/** `--device NAME`, for every command that computes. */
export function deviceOption(): Option {
  return new Option('--device <name>', `where to compute: ${NAMES}`).argParser(parseDevice).default('auto');
}

/** `--device NAME`, for every command that takes a recipe. */
export function recipeDeviceOption(): Option {
  return new Option('--device <name>', `where to compute: ${NAMES} (default: what the recipe says)`).argParser(
    parseDevice,
  );
}

/** `--device NAME` of a verification, which computes only where it computes again. */
export function verifyDeviceOption(): Option {
  return new Option('--device <name>', `where to recompute: ${NAMES} (default: cpu)`).argParser(parseDevice);
}

/** The values to override in a recipe, with the device among them. */
export function withDevice(set: readonly string[], device: DeviceName | undefined): readonly string[] {
  return device === undefined ? set : [...set, `device=${device}`];
}

/** Starts the engine of a device; says so when `auto` takes the CPU although something of CUDA is here. */
export async function openEngine(
  { device, threads }: { readonly device: DeviceName; readonly threads?: number | undefined },
  { progress }: Context,
): Promise<Engine> {
  const { loadEngine } = await import('../native/index.ts');
  return loadEngine({ device, threads, say: (line) => progress.log(line) });
}

function parseDevice(text: string): DeviceName {
  if (isDeviceName(text)) return text;
  throw new InvalidArgumentError(`It must be ${NAMES}.`);
}
