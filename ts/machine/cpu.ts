import { readFile } from 'node:fs/promises';
import { availableParallelism, cpus } from 'node:os';

/** Instruction sets that potstill's kernels ask for, by the names that Linux gives them. */
const FEATURES = [
  'sse4_2',
  'avx2',
  'fma',
  'f16c',
  'avx512f',
  'avx512bw',
  'avx512_bf16',
  'amx_bf16',
  'asimd',
  'bf16',
] as const;

/** The processor as far as arithmetic depends on it. */
export interface Cpu {
  readonly model: string;
  readonly architecture: string;
  /** Threads that this process may run at once: cores, affinity and a container's quota taken into account. */
  readonly threads: number;
  readonly cores: number;
  /** Known instruction sets it has; empty where the system does not tell (macOS, Windows). */
  readonly features: readonly string[];
}

export async function inspectCpu(): Promise<Cpu> {
  const info = await readFile('/proc/cpuinfo', 'utf8').catch(() => '');
  const quota = parseCpuQuota(await readFile('/sys/fs/cgroup/cpu.max', 'utf8').catch(() => 'max'));
  return {
    model: cpus()[0]?.model.trim() ?? 'unknown',
    architecture: process.arch,
    threads: Math.max(1, Math.min(availableParallelism(), Math.ceil(quota))),
    cores: cpus().length,
    features: parseFeatures(info),
  };
}

/** The known features in Linux's `/proc/cpuinfo` (x86 calls the line `flags`, ARM `Features`). */
export function parseFeatures(cpuinfo: string): string[] {
  const words = new Set(/^(?:flags|Features)\s*:\s*(.*)$/m.exec(cpuinfo)?.[1]?.split(/\s+/));
  return FEATURES.filter((feature) => words.has(feature));
}

/** Processors that a cgroup v2 `cpu.max` (`"150000 100000"`, `"max 100000"`) allows; infinity without a limit. */
export function parseCpuQuota(text: string): number {
  const [quota, period] = text.trim().split(/\s+/).map(Number);
  if (quota === undefined || period === undefined || !(quota > 0) || !(period > 0)) return Number.POSITIVE_INFINITY;
  return quota / period;
}
