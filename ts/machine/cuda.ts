import {
  type AddonCandidate,
  type CudaState,
  cuda,
  deviceProblem,
  freeCudaMemory,
  whyNoCuda,
} from '../native/index.ts';
import type { MachineProblem } from './inspect.ts';

/** A device of NVIDIA's that computes. */
export interface CudaDeviceState {
  readonly id: `cuda:${number}`;
  readonly name: string;
  /** Compute capability, such as 8.6. */
  readonly capability: string;
  readonly totalBytes: number;
  /** Nothing when the driver does not tell. */
  readonly freeBytes?: number;
}

/** What there is of CUDA. */
export interface CudaFacts {
  /** Can it be used? */
  readonly usable: boolean;
  /** The newest CUDA that the driver runs; nothing without a driver. */
  readonly driver?: string;
  readonly libraries: CudaState['libraries'];
  /** What keeps it from being used. */
  readonly problems: readonly MachineProblem[];
}

/** CUDA as `doctor` shows it. */
export interface FoundCuda {
  readonly facts: CudaFacts;
  readonly devices: readonly CudaDeviceState[];
  readonly candidates: readonly AddonCandidate[];
  /** Those that somebody wants to hear of: where there is neither a device nor the addon, nobody misses CUDA. */
  readonly problems: readonly MachineProblem[];
}

/**
 * Looks for CUDA.
 *
 * @param state what was found, for tests
 * @param isMissed does anything of CUDA lie here, so that its absence is a problem?
 * @param freeMemory asks a device
 */
export function inspectCudaFacts(
  state: CudaState = cuda(),
  isMissed: boolean = whyNoCuda()?.worthSaying ?? true,
  freeMemory: (number: number) => number = freeCudaMemory,
): FoundCuda {
  const { driver, libraries, candidates } = state;
  const usable = state.problems.length === 0;
  const problems = state.problems.map(({ what, remedy }) => ({ what: `CUDA: ${what}`, remedy }));
  const tooOld = usable ? state.devices.flatMap((_, number) => deviceProblem(state, number) ?? []) : [];
  return {
    facts: { usable, ...(driver === undefined ? {} : { driver }), libraries, problems },
    devices: !usable
      ? []
      : state.devices.flatMap(({ name, capability, totalBytes }, number) =>
          deviceProblem(state, number) !== undefined
            ? []
            : [{ id: `cuda:${number}` as const, name, capability, totalBytes, ...freeOf(number, freeMemory) }],
        ),
    candidates,
    problems: isMissed ? [...problems, ...tooOld.map(({ what, remedy }) => ({ what, remedy }))] : [],
  };
}

function freeOf(number: number, freeMemory: (number: number) => number): { freeBytes?: number } {
  try {
    return { freeBytes: freeMemory(number) };
  } catch {
    return {}; // a device in exclusive use by another process gives no context: it exists all the same
  }
}
