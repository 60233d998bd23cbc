import type { ErrorCode } from '../../errors.ts';
import { type AddonCandidate, type NativeAddon, tryPlace } from '../candidate.ts';
import type { CudaDevice, CudaDriver, Outcome } from '../generated/binding.js';
import type { AddonPlace } from '../platform.ts';
import type { LibraryFolder } from './folders.ts';
import { type FoundLibrary, installCommand, loadLibraries } from './libraries.ts';

/** The platform that the CUDA addon is built for, and its package. */
export const CUDA_PLATFORM = 'linux-x64-gnu';
export const CUDA_PACKAGE = `@potstill/native-cuda13-${CUDA_PLATFORM}`;

/** The driver's library, by the name under which the system's loader finds it. */
export const DRIVER = 'libcuda.so.1';

/**
 * The oldest CUDA that a driver must run, and that driver: the kernels are in the instruction set (PTX 9.0) of this CUDA's
 * compiler, which older drivers refuse.
 */
const OLDEST_CUDA = { major: 13, minor: 0, driver: 580 };

/** The oldest devices that the kernels run on: compute capability 8.0 (Ampere, 2020). */
const OLDEST_CAPABILITY = 8.0;

/** What the state of CUDA on a machine is found out with. */
export interface CudaProbe {
  readonly platform: string;
  readonly version: string;
  /** Where the addon may be. */
  readonly places: readonly AddonPlace[];
  readonly folders: () => readonly LibraryFolder[];
  readonly inspectDriver: (library: string) => Outcome<CudaDriver>;
  readonly preload: (file: string) => string | null | undefined;
}

/** Something that keeps CUDA from being used, and what helps. */
export interface CudaProblem {
  readonly code: ErrorCode;
  readonly what: string;
  readonly where?: string;
  readonly remedy: string;
}

/** What there is of CUDA on a machine. */
export interface CudaState {
  /** The newest CUDA that the driver runs; nothing without a driver. */
  readonly driver?: string;
  readonly devices: readonly CudaDevice[];
  /** None were looked for without a driver. */
  readonly libraries: readonly FoundLibrary[];
  readonly candidates: readonly AddonCandidate[];
  /** All that keeps it from being used: when there is nothing, `addon` is there. */
  readonly problems: readonly CudaProblem[];
  readonly addon?: NativeAddon;
}

/** Finds out whether the CUDA addon can work here, and loads it if so. */
export function inspectCuda(probe: CudaProbe): CudaState {
  if (probe.platform !== CUDA_PLATFORM) {
    const what = `CUDA is built for ${CUDA_PLATFORM} only; this is ${probe.platform}`;
    const problem: CudaProblem = { code: 'ERR_CUDA_PLATFORM', what, remedy: 'Use --device cpu.' };
    return { devices: [], libraries: [], candidates: [], problems: [problem] };
  }
  const opened = probe.inspectDriver(DRIVER);
  const driver = 'value' in opened ? opened.value : undefined;
  const ofDriver = 'value' in opened ? driverProblem(opened.value) : missingDriver(opened.error.what);
  // Without a driver there is nothing that CUDA's libraries could work with.
  const libraries = ofDriver === undefined ? loadLibraries(probe.folders(), probe.preload) : [];
  const missing = libraries.filter(({ found }) => found === undefined);
  const problems = [
    ...(ofDriver === undefined ? [] : [ofDriver]),
    ...(missing.length === 0 ? [] : [libraryProblem(missing)]),
    ...(probe.places.some(({ exists }) => exists()) ? [] : [missingAddon(probe, 'is not installed')]),
  ];
  const facts = { ...(driver === undefined ? {} : { driver: driver.cuda }), devices: driver?.devices ?? [], libraries };
  // An addon that is loaded without what it needs fails with the loader's words, or ends the process.
  if (problems.length > 0) return { ...facts, candidates: untried(probe, problems), problems };
  return { ...facts, ...loadAddon(probe) };
}

function untried(probe: CudaProbe, problems: readonly CudaProblem[]): AddonCandidate[] {
  const why = problems.map(({ what }) => what).join('; ');
  return probe.places.map(({ source, exists }) => ({
    backend: 'cuda',
    source,
    loaded: false,
    reason: exists() ? `not tried: ${why}` : 'not installed',
  }));
}

function missingDriver(reason: string): CudaProblem {
  return {
    code: 'ERR_CUDA_DRIVER',
    what: `there is no NVIDIA driver: ${reason}`,
    remedy: `Install NVIDIA's driver ${OLDEST_CUDA.driver} or newer; a container must be given the GPU (docker run --gpus all).`,
  };
}

function missingAddon({ version }: CudaProbe, reason: string, code: ErrorCode = 'ERR_NATIVE_MISSING'): CudaProblem {
  return { code, what: `the CUDA addon ${reason}`, remedy: `Run \`npm install ${CUDA_PACKAGE}@${version}\`.` };
}

function driverProblem({ cuda, devices, reason }: CudaDriver): CudaProblem | undefined {
  const [major = 0, minor = 0] = cuda.split('.').map(Number);
  const { major: oldest, minor: oldestMinor, driver } = OLDEST_CUDA;
  if (major < oldest || (major === oldest && minor < oldestMinor)) {
    return {
      code: 'ERR_CUDA_DRIVER_OLD',
      what: `the NVIDIA driver runs CUDA ${cuda} at most; ${oldest}.${oldestMinor} is needed`,
      remedy: `Update NVIDIA's driver to ${driver} or newer.`,
    };
  }
  if (reason !== undefined || devices.length === 0) {
    return {
      code: 'ERR_CUDA_DEVICE',
      what: `the NVIDIA driver has no device${reason === undefined ? '' : `: ${reason}`}`,
      remedy: 'See what `nvidia-smi` says; CUDA_VISIBLE_DEVICES must not hide the device.',
    };
  }
  return undefined;
}

function libraryProblem(missing: readonly FoundLibrary[]): CudaProblem {
  const broken = missing.flatMap(({ reasons = [] }) => reasons);
  const list = missing.map(({ file }) => file).join(', ');
  return {
    code: 'ERR_CUDA_LIBRARY',
    what: `CUDA 13's ${list} cannot be loaded${broken.length === 0 ? ': not found' : `: ${broken.join('; ')}`}`,
    remedy: `Run \`${installCommand(missing)}\` in an active Python environment, or install the CUDA 13 toolkit and set CUDA_PATH.`,
  };
}

function loadAddon(probe: CudaProbe): Pick<CudaState, 'candidates' | 'problems' | 'addon'> {
  const candidates: AddonCandidate[] = [];
  for (const place of probe.places) {
    const { addon, candidate } = tryPlace(place, probe.version, 'cuda');
    candidates.push(candidate);
    if (addon !== undefined) return { candidates, problems: [], addon };
  }
  const wrongVersion = candidates.some(({ version }) => version !== undefined);
  const reasons = candidates.map(({ source, reason }) => `${source}: ${reason}`).join('; ');
  const code = wrongVersion ? 'ERR_NATIVE_VERSION' : 'ERR_NATIVE_MISSING';
  return { candidates, problems: [missingAddon(probe, `cannot be used: ${reasons}`, code)] };
}

/** Why a device cannot be used although CUDA works: it does not exist, or is too old. */
export function deviceProblem(state: CudaState, number: number): CudaProblem | undefined {
  const where = `cuda:${number}`;
  const device = state.devices[number];
  if (device === undefined) {
    const list = state.devices.map(({ name }, index) => `cuda:${index} (${name})`).join(', ');
    return { code: 'ERR_CUDA_DEVICE', what: 'there is no such device', where, remedy: `What is there: ${list}.` };
  }
  if (Number(device.capability) < OLDEST_CAPABILITY) {
    const what = `${device.name} has compute capability ${device.capability}; ${OLDEST_CAPABILITY.toFixed(1)} is needed`;
    return { code: 'ERR_CUDA_DEVICE', what, where, remedy: 'Use another device, or --device cpu.' };
  }
  return undefined;
}
