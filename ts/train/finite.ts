import { PotstillError } from '../errors.ts';

/** What most often helps against a run that leaves the numbers. */
const REMEDY = 'Lower training.optimizer.lr or training.clip and resume from the last checkpoint.';

/**
 * Refuses a loss that is NaN or infinite, naming the samples.
 *
 * @param losses loss of each row
 * @param keys key of each row's sample
 */
export function requireFiniteLosses(step: number, losses: readonly number[], keys: readonly string[]): void {
  const bad = keys.filter((_, row) => !Number.isFinite(losses[row]));
  if (bad.length === 0) return;
  throw new PotstillError({
    code: 'ERR_TRAIN_NOT_FINITE',
    kind: 'check',
    what: `the loss is not finite for ${bad.join(', ')}`,
    where: `step ${step}`,
    remedy: REMEDY,
  });
}

/** Refuses gradients with a NaN or infinity among them: the weights are still those of the step before. */
export function requireFiniteGradient(step: number, norm: number, keys: readonly string[]): void {
  if (Number.isFinite(norm)) return;
  throw new PotstillError({
    code: 'ERR_TRAIN_NOT_FINITE',
    kind: 'check',
    what: `the gradient is not finite; samples ${keys.join(', ')}`,
    where: `step ${step}`,
    remedy: REMEDY,
  });
}
