/** A recipe's `training.timesteps`: how fresh timesteps are spread over their range. */
export type TimestepDistribution =
  | { readonly id: 'uniform'; readonly shift: number }
  | { readonly id: 'logit-normal'; readonly mean: number; readonly std: number; readonly shift: number };

/** The smallest distance from 0 and 1 that a quantile is taken at: of a uniform number of 32 bits. */
const EDGE = 2 ** -33;

/**
 * The place in [0, 1) of the quantile u of a distribution: u itself, or the logistic function of a normal quantile; then
 * shifted as flow-matching schedules are, u ← s·u/(1 + (s − 1)·u).
 */
export function quantile(distribution: TimestepDistribution, u: number): number {
  const { shift } = distribution;
  const place =
    distribution.id === 'uniform'
      ? u
      : 1 /
        (1 + Math.exp(-(distribution.mean + distribution.std * normalQuantile(Math.min(1 - EDGE, Math.max(EDGE, u))))));
  return shift === 1 ? place : (shift * place) / (1 + (shift - 1) * place);
}

/** Coefficients of P. J. Acklam's approximation (2003); relative error below 1.2e-9. */
const A = [
  -3.969683028665376e1, 2.209460984245205e2, -2.759285104469687e2, 1.38357751867269e2, -3.066479806614716e1,
  2.506628277459239,
];
const B = [
  -5.447609879822406e1, 1.615858368580409e2, -1.556989798598866e2, 6.680131188771972e1, -1.328068155288572e1, 1,
];
const C = [
  -7.784894002430293e-3, -3.223964580411365e-1, -2.400758277161838, -2.549732539343734, 4.374664141464968,
  2.938163982698783,
];
const D = [7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416, 1];
/** Below it, and above its complement, lie the tails. */
const TAIL = 0.02425;

const polynomial = (coefficients: readonly number[], x: number): number =>
  coefficients.reduce((sum, coefficient) => sum * x + coefficient, 0);

/** Quantile of the standard normal distribution, for 0 < p < 1. */
export function normalQuantile(p: number): number {
  if (p > 1 - TAIL) return -normalQuantile(1 - p);
  if (p < TAIL) {
    const q = Math.sqrt(-2 * Math.log(p));
    return polynomial(C, q) / polynomial(D, q);
  }
  const q = p - 0.5;
  const r = q * q;
  return (polynomial(A, r) * q) / polynomial(B, r);
}
