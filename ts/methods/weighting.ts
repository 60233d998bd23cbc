import type { PredictionKind } from '../native/index.ts';
import type { WeightingOptions } from './loss-options.ts';

/** kohya's bound on the signal-to-noise ratio in debiased weights: beyond it there is next to no noise. */
const MAX_SNR = 1000;

type Weight = (snr: number, gamma: number) => number;

/** An epsilon prediction of nothing but noise (SNR 0) counts 1. */
const FORMULAS: Readonly<Record<'min-snr' | 'debiased', Partial<Record<PredictionKind, Weight>>>> = {
  'min-snr': {
    epsilon: (snr, gamma) => (snr === 0 ? 1 : Math.min(snr, gamma) / snr),
    v: (snr, gamma) => Math.min(snr, gamma) / (snr + 1),
    x0: (snr, gamma) => Math.min(snr, gamma),
  },
  debiased: {
    epsilon: (snr) => (snr === 0 ? 1 : 1 / Math.sqrt(Math.min(snr, MAX_SNR))),
    v: (snr) => 1 / (snr + 1),
  },
};

/** Whether there is a formula for predictions of a kind. */
export function hasWeights({ id }: WeightingOptions, kind: PredictionKind): boolean {
  return id === 'none' || FORMULAS[id][kind] !== undefined;
}

/**
 * The weight of a timestep's loss, for predictions of a kind (Hang et al. 2023; Yu et al. 2023, with kohya's bound):
 *
 *     min-snr   epsilon min(SNR, γ)/SNR   v min(SNR, γ)/(SNR + 1)   x0 min(SNR, γ)
 *     debiased  epsilon 1/√min(SNR, 1000)   v 1/(SNR + 1)
 *
 * @throws RangeError for a kind without a formula: {@link hasWeights}
 */
export function weightOf(weighting: WeightingOptions, kind: PredictionKind, snr: number): number {
  if (weighting.id === 'none') return 1;
  const weight = FORMULAS[weighting.id][kind];
  if (weight === undefined) throw new RangeError(`${weighting.id} has no weights for ${kind}`);
  return weight(snr, weighting.id === 'min-snr' ? weighting.gamma : 0);
}
