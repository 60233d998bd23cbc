import { match } from 'ts-pattern';
import type { Tensor } from '../native/index.ts';
import type { Batch } from './define.ts';
import type { LossOptions } from './loss-options.ts';

/** Rows of a batch, as far as a loss looks at them. */
export type LossRows = Pick<Batch, 'timesteps' | 'perRow'>;

/** Timesteps that a course of c is stretched over: those of every Stable Diffusion schedule. */
const TIMESTEPS = 1000;

/**
 * The distance of every value, given the differences d [B, 4, h, w]:
 *
 *     mse           d²
 *     huber         d²/2 up to delta, then delta·(|d| − delta/2)         (torch)
 *     pseudo-huber  2c·(√(d² + c²) − c)                                  (kohya's "huber")
 *     smooth-l1     2·(√(d² + c²) − c)                                   (kohya's)
 *     log-cosh      ln cosh d = |d| + ln(1 + e^(−2|d|)) − ln 2           (OneTrainer's)
 *
 * @param snr signal-to-noise ratio of a timestep
 */
export function distances(
  loss: LossOptions,
  difference: Tensor,
  rows: LossRows,
  snr: (timestep: number) => number,
): Tensor {
  return match(loss)
    .with({ id: 'mse' }, () => difference.square())
    .with({ id: 'huber' }, ({ delta }) => {
      const inner = difference.clamp(-delta, delta);
      return inner.mul(difference.sub(inner.scale(0.5)));
    })
    .with({ id: 'pseudo-huber' }, (options) => {
      const c = rows.perRow(bends(options, rows, snr));
      return excess(difference, c).mul(c).scale(2);
    })
    .with({ id: 'smooth-l1' }, (options) => excess(difference, rows.perRow(bends(options, rows, snr))).scale(2))
    .with({ id: 'log-cosh' }, () => {
      const size = difference.abs();
      return size.add(size.scale(-2).exp().affine(1, 1).log()).affine(1, -Math.LN2);
    })
    .exhaustive();
}

/** √(d² + c²) − c as d²/(√(d² + c²) + c): small differences do not cancel. */
function excess(difference: Tensor, c: Tensor): Tensor {
  const square = difference.square();
  return square.div(square.add(c.square()).sqrt().add(c));
}

/** c of every row (kohya's `huber_schedule`). */
function bends(
  { c, schedule }: Extract<LossOptions, { schedule: string }>,
  { timesteps }: LossRows,
  snr: (timestep: number) => number,
): Float64Array {
  return timesteps.map((timestep) =>
    match(schedule)
      .with('constant', () => c)
      .with('exponential', () => c ** (timestep / TIMESTEPS))
      // σ² = 1 / SNR
      .with('snr', () => (1 - c) / (1 + 1 / Math.sqrt(snr(timestep))) ** 2 + c)
      .exhaustive(),
  );
}
