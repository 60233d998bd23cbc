import { match } from 'ts-pattern';
import type { Tensor } from '../native/index.ts';
import type { Term } from './define.ts';
import { asKind, type Point, type Prediction } from './prediction.ts';

/** A recipe's `training.loss`. */
export interface LossOptions {
  readonly id: 'mse';
}

/** The loss of a batch and what is logged of it. */
export interface BatchLoss {
  /** What is trained on: the mean over the rows, a scalar with gradients. */
  readonly total: Tensor;
  /** Loss of every row before weights, [B]: names the row when something is not finite. */
  readonly perSample: Tensor;
  /** Mean losses against each logged target, by name. */
  readonly also: ReadonlyMap<string, Tensor>;
}

/** Loss of each row, [B]: the mean over all other axes. */
function lossPerSample(loss: LossOptions, prediction: Tensor, target: Tensor): Tensor {
  return match(loss)
    .with({ id: 'mse' }, () => prediction.sub(target).square().mean([1, 2, 3], false))
    .exhaustive();
}

/**
 * Target → loss per sample → weight → mean, in that order, once for every method. Terms are added up.
 *
 * @param weights weight of each row, [B]; none weighs all rows alike
 */
export function evaluate(terms: readonly Term[], point: Point, loss: LossOptions, weights?: Tensor): BatchLoss {
  const perTerm = terms.map(({ prediction, target }) => against(loss, prediction, target, point));
  const [first, ...rest] = perTerm;
  if (first === undefined) throw new RangeError('a step without terms has no loss');
  const perSample = rest.reduce((sum, term) => sum.add(term), first);
  const weighted = weights === undefined ? perSample : perSample.mul(weights);
  const also = new Map<string, Tensor>();
  for (const { prediction, also: targets } of terms) {
    const detached = { ...prediction, tensor: prediction.tensor.detach() };
    for (const [name, target] of Object.entries(targets ?? {})) {
      also.set(name, against(loss, detached, target, point).mean([0], false));
    }
  }
  return { total: weighted.mean([0], false), perSample, also };
}

function against(loss: LossOptions, prediction: Prediction, target: Prediction, point: Point): Tensor {
  return lossPerSample(loss, prediction.tensor, asKind(target, prediction.kind, point).tensor);
}
