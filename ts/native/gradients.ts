import { Tensor } from './tensor.ts';

/**
 * The gradients of a scalar loss at leaves, one tensor per leaf and of its shape. Reading one of a leaf that the loss
 * does not depend on is an error: nothing is cut silently.
 *
 * The loss's graph stays, so that further gradients can be taken; it is freed with the tensors.
 */
export function gradients(loss: Tensor, leaves: readonly Tensor[]): Tensor[] {
  const { engine } = loss;
  const ids = leaves.map(() => engine.allocate());
  engine.native.gradients(
    ids,
    loss.id,
    leaves.map(({ id }) => id),
  );
  return leaves.map((leaf, index) => new Tensor(engine, ids[index] ?? 0, leaf.shape));
}
