import { availableParallelism } from 'node:os';
import { type Device, type DeviceName, isDeviceName } from '../device.ts';
import { inputError } from '../errors.ts';
import type { NativeAddon } from './candidate.ts';
import { type ChosenDevice, chooseDevice } from './cuda/choose.ts';
import { cuda, whyNoCuda } from './cuda/state.ts';
import { Engine } from './engine.ts';
import { addon, withKernels } from './load.ts';
import { unwrap } from './outcome.ts';

/** Most threads that one operation may be given: more than any machine has. */
const MAX_THREADS = 1024;

export interface EngineOptions {
  /** Where to compute; the CPU unless given. */
  readonly device?: DeviceName | undefined;
  /** Threads of the CPU; as many as it has unless given. */
  readonly threads?: number | undefined;
  /** Told when `auto` takes the CPU although something of CUDA is here. */
  readonly say?: ((line: string) => void) | undefined;
}

/** An addon, and the device that it computes on. */
export interface ComputingAddon {
  readonly native: NativeAddon;
  readonly device: Device;
}

/**
 * The addon that computes on the device of a name.
 *
 * @throws PotstillError when the addon is missing, or the device was named and cannot be used; then nothing else is used in
 *   its place
 */
export function chooseAddon({ device: name = 'cpu', say }: Omit<EngineOptions, 'threads'>): ComputingAddon {
  const { device, note } = deviceOf(name);
  if (note !== undefined) say?.(note);
  return { native: device === 'cpu' ? addon() : withKernels(cuda().addon as NativeAddon), device };
}

/**
 * Starts an engine.
 *
 * @throws PotstillError as {@link chooseAddon}, and when the number of threads is none
 */
export async function loadEngine(options: EngineOptions = {}): Promise<Engine> {
  const { device: name = 'cpu', threads = availableParallelism(), say } = options;
  if (!Number.isInteger(threads) || threads < 1 || threads > MAX_THREADS) {
    throw inputError('ERR_THREADS', `${threads} is no number of threads`, { remedy: 'Give a whole number from 1 on.' });
  }
  const { native, device } = chooseAddon({ device: name, say });
  const engine = new Engine(new native.Engine(threads, device), native, device);
  unwrap(await engine.native.opened());
  return engine;
}

function deviceOf(name: DeviceName): ChosenDevice {
  if (!isDeviceName(name)) {
    throw inputError('ERR_DEVICE', `there is no device ${JSON.stringify(name)}`, {
      remedy: 'Give auto, cpu, cuda, or cuda:1 for the second device.',
    });
  }
  if (name === 'cpu') return { device: 'cpu' };
  const why = name === 'auto' ? whyNoCuda() : undefined;
  if (why === undefined) return chooseDevice(name, cuda());
  return { device: 'cpu', ...(why.worthSaying ? { note: `computing on the CPU: ${why.reason}` } : {}) };
}
