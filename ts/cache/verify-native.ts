import { cancelled } from '../native/cancel.ts';
import { addon } from '../native/load.ts';
import { unwrap } from '../native/outcome.ts';
import type { ReportBytes } from './verify.ts';

/** How often progress is looked at, in milliseconds. */
const POLL_MS = 200;

/** Verifies a cache by the addon, on all cores. */
export async function verifyNatively(
  cache: string,
  images: string | undefined,
  report: ReportBytes,
  signal?: AbortSignal,
): Promise<string> {
  const { VerificationProgress, verifyCache } = addon();
  const progress = new VerificationProgress();
  using cancel = cancelled(signal);
  const timer = setInterval(() => report(progress.done, progress.total), POLL_MS);
  try {
    const outcome = await verifyCache(cache, progress, cancel.token, images);
    signal?.throwIfAborted();
    return unwrap(outcome);
  } finally {
    clearInterval(timer);
  }
}
