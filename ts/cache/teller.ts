import type { VerifyMessage } from './wasm-messages.ts';

/** Reports that so many of so many are done. */
export type Report = (done: number, total: number) => void;

/** Between two reports of progress, in milliseconds. */
const INTERVAL_MS = 100;

/** Tells of progress, but not of every shard of a million. */
export function teller(kind: 'bytes' | 'entries', say: (message: VerifyMessage) => void): Report {
  let last = Number.NEGATIVE_INFINITY;
  return (done, total) => {
    const now = performance.now();
    if (now - last < INTERVAL_MS) return;
    last = now;
    say({ kind, done, total });
  };
}
