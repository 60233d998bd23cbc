import { type VerifyBackend, verifyCache } from '../cache/index.ts';
import { peakBytes } from './measure.ts';

/** What is verified, and how often. */
export interface VerifyBenchmarkOptions {
  readonly iterations: number;
  readonly backend?: VerifyBackend | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** How fast a cache was verified. */
export interface VerifyMeasurement {
  /** Of each iteration, after one that does not count: its files are in the system's page cache then. */
  readonly seconds: readonly number[];
  /** The most memory that the process has had. */
  readonly peakBytes: number;
  /** Bytes of the cache, each read once in an iteration. */
  readonly bytes: number;
  readonly backend: 'native' | 'wasm';
  /** Whether nothing was wrong with the cache: findings take time too. */
  readonly verdict: 'ok' | 'damaged';
}

/**
 * Verifies a cache again and again: structure and determinism.
 *
 * @throws PotstillError as {@link verifyCache}
 */
export async function measureVerification(
  cache: string,
  { iterations, backend, signal }: VerifyBenchmarkOptions,
): Promise<VerifyMeasurement> {
  const first = await verifyCache(cache, { backend, signal });
  const seconds: number[] = [];
  while (seconds.length < iterations) {
    const begun = performance.now();
    await verifyCache(cache, { backend: first.backend, signal });
    seconds.push((performance.now() - begun) / 1000);
  }
  const bytes = first.report.components.reduce((sum, component) => sum + component.bytes, 0);
  return { seconds, peakBytes: peakBytes(), bytes, backend: first.backend, verdict: first.report.verdict };
}
