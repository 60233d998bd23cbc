import { type AddonCandidate, addon, addonCandidates } from '../native/index.ts';
import { platformName } from '../native/platform.ts';
import { packageVersion } from '../version.ts';
import { type Cpu, inspectCpu } from './cpu.ts';
import { type CudaDeviceState, type CudaFacts, inspectCudaFacts } from './cuda.ts';
import { glibcVersion } from './libc.ts';
import { type Disk, inspectDisk, inspectMemory, type Memory } from './memory.ts';
import { inspectWasm, type WasmState } from './wasm.ts';

/** Something that keeps potstill from working here, and what helps. */
export interface MachineProblem {
  readonly what: string;
  readonly remedy: string;
}

/** Something that training and sampling can run on. */
export type ComputeDevice = CpuDevice | CudaDeviceState;

/** The processor. */
export interface CpuDevice {
  readonly id: 'cpu';
  /** Class of its kernels: checkpoints continue to the bit within one class. */
  readonly kernels: string;
  readonly threads: number;
}

/** What potstill finds on this machine. */
export interface Machine {
  readonly potstill: string;
  readonly node: string;
  readonly platform: string;
  readonly glibc?: string;
  readonly cpu: Cpu;
  readonly memory: Memory;
  readonly disk: Disk;
  readonly devices: readonly ComputeDevice[];
  readonly native: {
    /** Where the addon was loaded from; null when it could not be. */
    readonly loaded: string | null;
    /** Every place that was looked in, for the CPU's addon and for CUDA's. */
    readonly candidates: readonly AddonCandidate[];
  };
  /** NVIDIA's driver and CUDA's libraries; nothing when there is no addon to look for them with. */
  readonly cuda?: CudaFacts;
  readonly wasm: WasmState;
  readonly problems: readonly MachineProblem[];
}

/** A cache build or a training writes gigabytes; below this much free disk it is likely to stop half-way. */
const LITTLE_DISK = 2e9;
/** SD1.5 in f32 takes 3.4 GB for its UNet alone; the demo's models take far less than this. */
const LITTLE_MEMORY = 2e9;

/**
 * Looks at everything that potstill depends on. Nothing here throws for what is merely missing.
 *
 * @throws PotstillError `ERR_KERNELS` when the environment names kernels that cannot be used
 */
export async function inspectMachine(folder: string): Promise<Machine> {
  const [cpu, memory, disk, wasm] = await Promise.all([
    inspectCpu(),
    inspectMemory(),
    inspectDisk(folder),
    inspectWasm(),
  ]);
  const forCpu = addonCandidates();
  const used = forCpu.find(({ loaded }) => loaded);
  const cuda = used === undefined ? undefined : inspectCudaFacts();
  const candidates = [...forCpu, ...(cuda?.candidates ?? [])];
  const glibc = glibcVersion();
  return {
    potstill: packageVersion(),
    node: process.versions.node,
    platform: `${process.platform}-${process.arch}`,
    ...(glibc === undefined ? {} : { glibc }),
    cpu,
    memory,
    disk,
    devices: [
      ...(used === undefined ? [] : [{ id: 'cpu' as const, kernels: addon().kernelClass(), threads: cpu.threads }]),
      ...(cuda?.devices ?? []),
    ],
    native: { loaded: used?.source ?? null, candidates },
    ...(cuda === undefined ? {} : { cuda: cuda.facts }),
    wasm,
    problems: [
      ...findProblems({ memory, disk, wasm, candidates: forCpu, addon: used !== undefined }),
      ...(cuda?.problems ?? []),
    ],
  };
}

function findProblems(found: {
  memory: Memory;
  disk: Disk;
  wasm: WasmState;
  candidates: readonly AddonCandidate[];
  addon: boolean;
}): MachineProblem[] {
  const problems: MachineProblem[] = [];
  if (!found.addon) {
    const reasons = found.candidates.map(({ source, reason }) => `${source}: ${reason}`).join('; ');
    problems.push({
      what: `the native addon cannot be loaded (${reasons})`,
      remedy: `Run \`npm install @potstill/native-${platformName()}@${packageVersion()}\`, or \`npm run setup\` in a clone.`,
    });
  }
  if (!found.wasm.present || found.wasm.reason !== undefined) {
    problems.push({
      what: `the WASM module cannot be used: ${found.wasm.reason ?? `there is no ${found.wasm.file}`}`,
      remedy: 'Install potstill again, or run `npm run setup` in a clone.',
    });
  }
  if (found.disk.available < LITTLE_DISK) {
    problems.push({
      what: `little disk is free at ${found.disk.folder}`,
      remedy: 'Caches and checkpoints take gigabytes: free some.',
    });
  }
  if (found.memory.available < LITTLE_MEMORY) {
    problems.push({ what: 'little memory is free', remedy: 'Close other programs; only small models fit.' });
  }
  return problems;
}
