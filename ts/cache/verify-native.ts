import { cancelled } from '../native/cancel.ts';
import type { ComputingAddon } from '../native/load-engine.ts';
import { unwrap } from '../native/outcome.ts';
import type { BackendOptions } from './verify.ts';

/** How often progress is looked at, in milliseconds. */
const POLL_MS = 200;

/** Verifies a cache by an addon, on all cores; what is recomputed, on the device. */
export async function verifyNatively(
  cache: string,
  { native, device }: ComputingAddon,
  { images, recomputation, bytes, entries, signal }: BackendOptions,
): Promise<string> {
  const { VerificationProgress, verifyCache } = native;
  const progress = new VerificationProgress();
  using cancel = cancelled(signal);
  const timer = setInterval(() => {
    bytes(progress.done, progress.total);
    entries(progress.recomputed, progress.toRecompute);
  }, POLL_MS);
  try {
    const outcome = await verifyCache(cache, progress, cancel.token, images, recomputation, device);
    signal?.throwIfAborted();
    return unwrap(outcome);
  } finally {
    clearInterval(timer);
  }
}
