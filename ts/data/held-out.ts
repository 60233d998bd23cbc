import type { BatchRow } from './batches.ts';
import type { Sample } from './entries.ts';
import { seedOf } from './philox.ts';

/** What to validate on. */
export interface HeldOutOptions {
  readonly samples: readonly Sample[];
  /** Indices of the held-out samples. */
  readonly among: readonly number[];
  readonly seed: number;
  /** Draws of (timestep, noise) per sample. */
  readonly draws: number;
}

/**
 * The rows of a validation: every held-out sample with each of its draws, no caption dropped, always the same noise and
 * timesteps, and all of one weight. The seed of a draw goes by the sample's key, so it survives added data.
 */
export function heldOutRows({ samples, among, seed, draws }: HeldOutOptions): BatchRow[] {
  return among.flatMap((sample) =>
    Array.from({ length: draws }, (_, draw) => ({
      sample,
      draw,
      caption: sample,
      dropped: false,
      drawSeed: seedOf('validation', seed, samples[sample]?.key ?? '', draw),
      stratum: [draw, draws] as const,
      part: samples[sample]?.part ?? 0,
    })),
  );
}

/**
 * The same rows with each sample's caption replaced by the next sample's. A model that heeds its captions does worse on
 * these.
 */
export function withShuffledCaptions(rows: readonly BatchRow[]): BatchRow[] {
  const order = [...new Set(rows.map(({ sample }) => sample))];
  const next = new Map(order.map((sample, index) => [sample, order[(index + 1) % order.length] ?? sample]));
  return rows.map((row) => ({ ...row, caption: next.get(row.sample) ?? row.caption }));
}
