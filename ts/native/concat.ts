import { inputError } from '../errors.ts';
import { concatenatedShape, type Shape } from './shape.ts';
import { enqueueTensor, type Tensor } from './tensor.ts';

/** Tensors laid end to end along an axis (0 by default). */
export function concat(tensors: readonly Tensor[], axis = 0): Tensor {
  const [first] = tensors;
  if (first === undefined) throw inputError('ERR_TENSOR_SHAPE', 'concat needs at least one tensor');
  const shapes: Shape[] = tensors.map(({ shape }) => shape);
  const ids = tensors.map(({ id }) => id);
  return enqueueTensor(first.engine, concatenatedShape(shapes, axis), (id) =>
    first.engine.native.concat(id, ids, axis),
  );
}
