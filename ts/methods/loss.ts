import type { Tensor } from '../native/index.ts';
import type { Batch, Term } from './define.ts';
import { distances, type LossRows } from './distance.ts';
import type { LossOptions, WeightingOptions } from './loss-options.ts';
import { asKind, type Point, type Prediction } from './prediction.ts';
import { weightOf } from './weighting.ts';

/** How predictions are compared with their targets. */
export interface LossSettings {
  readonly distance: LossOptions;
  readonly weighting: WeightingOptions;
  /** Signal-to-noise ratio ᾱ/(1 − ᾱ) of a timestep. */
  readonly snr: (timestep: number) => number;
  readonly masks: MaskOptions;
}

/** A recipe's `training.masks`. */
export interface MaskOptions {
  /** What counts at least, outside of a mask. */
  readonly unmasked: number;
  /** Weight, outside of a mask, of staying what the student was. */
  readonly prior: number;
  /** Divides the loss by the mean of the mask, so that a small one counts as much as a large one. */
  readonly normalise: boolean;
}

/** The loss of a batch and what is logged of it. */
export interface BatchLoss {
  /** What is trained on: the mean over the rows, a scalar with gradients. */
  readonly total: Tensor;
  /** Loss of every row before weights, [B]: names the row when something is not finite. */
  readonly perSample: Tensor;
  /** Mean losses against each logged target, by name. */
  readonly also: ReadonlyMap<string, Tensor>;
  /** What the terms have to log, scalars by name. */
  readonly figures: ReadonlyMap<string, Tensor>;
}

/**
 * Target → loss per sample → weight → mean, in that order, once for every method. Terms are added up.
 *
 * @param weights weight of each row beside that of its timestep; none weighs all rows alike
 */
export function evaluate(
  terms: readonly Term[],
  batch: Point & LossRows & Pick<Batch, 'mask'>,
  settings: LossSettings,
  weights?: Float64Array,
): BatchLoss {
  const against = (prediction: Prediction, target: Prediction, region?: Term['region']): Tensor => {
    const difference = prediction.tensor.sub(asKind(target, prediction.kind, batch).tensor);
    const found = distances(settings.distance, difference, batch, settings.snr);
    return masked(found, batch.mask, region, settings.masks).mean([1, 2, 3], false);
  };
  const perTerm = terms.map(({ prediction, target, weight = 1, region }) => {
    const found = against(prediction, target, region);
    return weight === 1 ? found : found.scale(weight);
  });
  const [first, ...rest] = perTerm;
  const kind = terms[0]?.prediction.kind;
  if (first === undefined || kind === undefined) throw new RangeError('a step without terms has no loss');
  const perSample = rest.reduce((sum, term) => sum.add(term), first);
  const counts = batch.timesteps.map(
    (timestep, row) => weightOf(settings.weighting, kind, settings.snr(timestep)) * (weights?.[row] ?? 1),
  );
  const isEven = counts.every((count) => count === 1);
  const weighted = isEven ? perSample : perSample.mul(batch.perRow(counts).reshape([counts.length]));
  const also = new Map<string, Tensor>();
  for (const { prediction, also: targets, region } of terms) {
    const detached = { ...prediction, tensor: prediction.tensor.detach() };
    for (const [name, target] of Object.entries(targets ?? {})) {
      also.set(name, against(detached, target, region).mean([0], false));
    }
  }
  const figures = new Map(terms.flatMap(({ figures = {} }) => Object.entries(figures)));
  return { total: weighted.mean([0], false), perSample, also, figures };
}

/**
 * Distances as a mask m lets them count: max(m, unmasked) inside, divided by its mean where that is asked for; 1 − m
 * outside.
 */
function masked(
  found: Tensor,
  mask: Tensor | undefined,
  region: Term['region'],
  { unmasked, normalise }: MaskOptions,
): Tensor {
  if (mask === undefined) return found;
  if (region === 'outside') return found.mul(mask.affine(-1, 1));
  const inside = mask.clamp(unmasked, 1);
  const counted = found.mul(inside);
  return normalise ? counted.div(inside.mean([1, 2, 3], true)) : counted;
}
