import { match } from 'ts-pattern';

/** How the learning rate changes over a run. */
export type LrSchedule =
  | { readonly id: 'constant'; readonly warmup: number }
  | { readonly id: 'linear'; readonly warmup: number }
  | { readonly id: 'cosine'; readonly warmup: number; readonly cycles: number };

/**
 * The factor on the base learning rate for an update, as torch's `LambdaLR` with diffusers' lambdas: the update numbered
 * 0 uses factor(0), which is 0 with a warm-up (reference: diffusers `optimization.py`).
 *
 * @param step number of the update, from 0
 * @param total updates of the whole run
 */
export function lrFactor(schedule: LrSchedule, step: number, total: number): number {
  const { warmup } = schedule;
  if (step < warmup) return step / Math.max(1, warmup);
  const remaining = Math.max(1, total - warmup);
  return match(schedule)
    .with({ id: 'constant' }, () => 1)
    .with({ id: 'linear' }, () => Math.max(0, (total - step) / remaining))
    .with({ id: 'cosine' }, ({ cycles }) =>
      Math.max(0, 0.5 * (1 + Math.cos(2 * Math.PI * cycles * ((step - warmup) / remaining)))),
    )
    .exhaustive();
}
