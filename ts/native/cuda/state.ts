import { existsSync } from 'node:fs';
import { packageVersion } from '../../version.ts';
import { addon } from '../load.ts';
import { unwrap } from '../outcome.ts';
import { addonPlaces, platformName } from '../platform.ts';
import { libraryFolders } from './folders.ts';
import { CUDA_PACKAGE, CUDA_PLATFORM, type CudaState, DRIVER, inspectCuda } from './inspect.ts';

/** What there is only where a kernel has NVIDIA's driver, natively or in Windows' subsystem. */
const DEVICE_FILES = ['/dev/nvidiactl', '/dev/dxg'];

let found: CudaState | undefined;

/** What there is of CUDA on this machine, looked for at the first call; where it can work, it is loaded then. */
export function cuda(): CudaState {
  found ??= inspectCuda({
    platform: platformName(),
    version: packageVersion(),
    places: addonPlaces(platformName(), 'cuda'),
    folders: () => libraryFolders(process.env),
    inspectDriver: (library) => addon().inspectCudaDriver(library),
    preload: (file) => addon().preloadLibrary(file),
  });
  return found;
}

/** Bytes that are free on a device. Makes a context on it for a moment. */
export function freeCudaMemory(number: number): number {
  return unwrap(addon().freeCudaMemory(DRIVER, number));
}

/**
 * Why nobody can have meant CUDA by `auto` here; nothing where it is worth a look. Looking takes a driver some tenths of a
 * second, so it must not be done where there is nothing to be found.
 */
export function whyNoCuda(
  facts: { readonly installed?: boolean; readonly device?: boolean } = {},
): { readonly reason: string; readonly worthSaying: boolean } | undefined {
  const {
    installed = platformName() === CUDA_PLATFORM && addonPlaces(CUDA_PLATFORM, 'cuda').some(({ exists }) => exists()),
    device = DEVICE_FILES.some((file) => existsSync(file)),
  } = facts;
  if (installed) return undefined;
  return device
    ? {
        reason: `an NVIDIA device is here; to use it, run \`npm install ${CUDA_PACKAGE}@${packageVersion()}\``,
        worthSaying: true,
      }
    : { reason: 'there is neither an NVIDIA device nor the CUDA addon', worthSaying: false };
}
