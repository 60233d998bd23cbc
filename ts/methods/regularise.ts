import { type Batch, type Roles, required, type Term } from './define.ts';

/** A recipe's `training.regularise`: what is added to the loss of every batch, whatever its method. */
export interface Regularisers {
  /** Weight of the student's distance from what it predicted before training. */
  readonly prior: number;
  /** Weight of ordinary training: the student's distance from the truth of the data. */
  readonly data: number;
}

/**
 * Adds regularisers to a method's terms, against the same prediction: same noise, timestep and prompt, no further forward
 * of the student.
 *
 * @param outside weight of staying what the student was where a batch's mask is black: masked prior preservation
 */
export function regularise(
  terms: readonly Term[],
  batch: Batch,
  roles: Roles,
  { prior, data }: Regularisers,
  outside = 0,
): readonly Term[] {
  const [first] = terms;
  if (first === undefined) return terms;
  const { prediction } = first;
  const added: Term[] = [];
  const preserves = outside > 0 && batch.mask !== undefined;
  if (prior > 0 || preserves) {
    const target = required(roles, 'prior').predict(batch, batch.text);
    if (prior > 0) added.push({ prediction, target, weight: prior, also: { 'regularise.prior': target } });
    if (preserves) {
      added.push({ prediction, target, weight: outside, region: 'outside', also: { 'masks.prior': target } });
    }
  }
  if (data > 0) {
    const target = roles.student.truth(batch);
    added.push({ prediction, target, weight: data, also: { 'regularise.data': target } });
  }
  return [...terms, ...added];
}

/**
 * The guidance that a student of method `cfg` ends at, g having been asked for: the minimum of a weighted sum of squared
 * distances is the weighted mean of the targets, and both the data's and an undistilled student's own mean is the
 * conditional prediction, guidance 1. For `mse`, and a student that starts as its teacher.
 */
export function effectiveGuidance(guidance: number, { prior, data }: Regularisers): number {
  return (guidance + prior + data) / (1 + prior + data);
}
