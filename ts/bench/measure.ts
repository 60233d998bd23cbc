import type { Engine, ProfiledOperation } from '../native/index.ts';

/** How a workload was run. */
export interface Iterations {
  readonly iterations: number;
  /** Iterations before those that count. */
  readonly warmUp?: number;
  /** Time every operation as well. The iterations that count are not those that are profiled: one more is run. */
  readonly profile?: boolean;
  /** The kernels that it uses; the engine's for f32 unless given. */
  readonly kernels?: string;
  readonly signal?: AbortSignal | undefined;
}

/** A benchmark's result. */
export interface Measurement {
  /** Of each iteration; warm-up excluded. */
  readonly seconds: readonly number[];
  /** The most memory that the process has had. */
  readonly peakBytes: number;
  /** Floating-point operations of the matrix products of one iteration. */
  readonly flops: number;
  readonly threads: number;
  readonly kernels: string;
  /** Every operation on every shape, slowest first. */
  readonly profile?: readonly ProfiledOperation[];
}

/** The most memory that this process has had. */
export function peakBytes(): number {
  const KIBIBYTE = 1024;
  return process.resourceUsage().maxRSS * KIBIBYTE;
}

/**
 * Runs a workload again and again.
 *
 * @param run runs it once and gives its seconds
 */
export async function measure(engine: Engine, run: () => Promise<number>, options: Iterations): Promise<Measurement> {
  const { iterations, warmUp = 1, profile = false, kernels = engine.kernelClass, signal } = options;
  for (let i = 0; i < warmUp; i += 1) await run();
  const seconds: number[] = [];
  while (seconds.length < iterations) {
    signal?.throwIfAborted();
    seconds.push(await run());
  }
  const peak = peakBytes();
  engine.startProfile();
  await run();
  const operations = await engine.takeProfile();
  return {
    seconds,
    peakBytes: peak,
    flops: operations.reduce((sum, { flops }) => sum + flops, 0),
    threads: engine.threads,
    kernels,
    ...(profile ? { profile: operations } : {}),
  };
}
