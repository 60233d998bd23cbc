import { inputError } from '../errors.ts';
import type { Engine } from './engine.ts';
import type { BinaryOp, ReduceOp, UnaryOp } from './generated/binding.js';
import { Handle } from './handle.ts';
import { unwrap } from './outcome.ts';
import { broadcastShapes, elements, reducedShape, type Shape } from './shape.ts';

/**
 * An f32 tensor on an engine's thread. Operations return at once; shapes broadcast as in numpy. Gradients flow back to
 * the leaves ({@link gradients}): outputs of a module that was run with `grad`, and {@link Tensor.leaf}s.
 */
export class Tensor extends Handle {
  readonly dtype = 'f32';
  readonly #shape: Shape | undefined;

  /** For the modules of `ts/native` and `ts/cache`: the handle `id` is filled by an operation that is enqueued already. */
  constructor(engine: Engine, id: number, shape: Shape | undefined) {
    super(engine, id, true);
    this.#shape = shape;
  }

  /** Copies values in row-major order. */
  static fromArray(engine: Engine, values: Float32Array | readonly number[], shape: Shape): Tensor {
    const count = elements(shape);
    if (!shape.every((size) => Number.isSafeInteger(size) && size >= 0) || count !== values.length) {
      throw inputError('ERR_TENSOR_SHAPE', `${values.length} values do not fill the shape [${shape.join(', ')}]`, {
        where: 'Tensor.fromArray',
        remedy: 'Give as many values as the product of the sizes.',
      });
    }
    const id = engine.allocate();
    engine.native.fromArray(id, values instanceof Float32Array ? values : Float32Array.from(values), [...shape]);
    return new Tensor(engine, id, shape);
  }

  /** A scalar. */
  static scalar(engine: Engine, value: number): Tensor {
    return Tensor.fromArray(engine, [value], []);
  }

  /**
   * Sizes of the axes.
   *
   * @throws PotstillError when the operation's arguments did not fit together, so that there is none
   */
  get shape(): Shape {
    if (this.#shape !== undefined) return this.#shape;
    throw inputError('ERR_TENSOR_SHAPE', 'the shapes given to the operation that made this tensor do not fit', {
      remedy: 'Read the tensor (toArray) to learn which operation and shapes.',
    });
  }

  add(other: Tensor): Tensor {
    return this.#binary('add', other);
  }
  sub(other: Tensor): Tensor {
    return this.#binary('sub', other);
  }
  mul(other: Tensor): Tensor {
    return this.#binary('mul', other);
  }
  div(other: Tensor): Tensor {
    return this.#binary('div', other);
  }

  /** x·mul + add. */
  affine(mul: number, add: number): Tensor {
    return this.#make(this.#shape, (id) => this.engine.native.affine(id, this.id, mul, add));
  }
  /** x·by. */
  scale(by: number): Tensor {
    return this.affine(by, 0);
  }
  neg(): Tensor {
    return this.#unary('neg');
  }
  square(): Tensor {
    return this.#unary('square');
  }
  sqrt(): Tensor {
    return this.#unary('sqrt');
  }
  exp(): Tensor {
    return this.#unary('exp');
  }
  /** Natural logarithm. */
  log(): Tensor {
    return this.#unary('log');
  }
  abs(): Tensor {
    return this.#unary('abs');
  }
  /** Limits values to [low, high]; the gradient is 0 outside. */
  clamp(low: number, high: number): Tensor {
    return this.#make(this.#shape, (id) => this.engine.native.clamp(id, this.id, low, high));
  }

  /** Sum over axes (counted from 0), all of them by default. */
  sum(axes?: readonly number[], keep = false): Tensor {
    return this.#reduce('sum', axes, keep);
  }
  /** Mean over axes (counted from 0), all of them by default. */
  mean(axes?: readonly number[], keep = false): Tensor {
    return this.#reduce('mean', axes, keep);
  }

  /** The same values in another shape of as many elements. */
  reshape(shape: Shape): Tensor {
    const fits = this.#shape === undefined || elements(this.#shape) === elements(shape);
    return this.#make(fits ? shape : undefined, (id) => this.engine.native.reshape(id, this.id, [...shape]));
  }
  /** `length` entries of an axis, from `start`. */
  slice(axis: number, start: number, length: number): Tensor {
    const size = this.#shape?.[axis];
    const fits = size !== undefined && start >= 0 && length >= 0 && start + length <= size;
    const shape = fits ? this.#shape?.map((s, at) => (at === axis ? length : s)) : undefined;
    return this.#make(shape, (id) => this.engine.native.slice(id, this.id, axis, start, length));
  }
  /** Repeats axes of size 1 (and adds leading ones) to fill `shape`. */
  broadcast(shape: Shape): Tensor {
    const joint = this.#shape && broadcastShapes(this.#shape, shape);
    const fits = joint !== undefined && joint.length === shape.length && joint.every((size, at) => size === shape[at]);
    return this.#make(fits ? shape : undefined, (id) => this.engine.native.broadcast(id, this.id, [...shape]));
  }

  /** The same values, through which no gradient flows. */
  detach(): Tensor {
    return this.#make(this.#shape, (id) => this.engine.native.detach(id, this.id));
  }
  /** The same values as a leaf, at which {@link gradients} can be taken. */
  leaf(): Tensor {
    return this.#make(this.#shape, (id) => this.engine.native.leaf(id, this.id));
  }

  /**
   * The values in row-major order, copied.
   *
   * @throws PotstillError the error of this operation, or of one that it was made of
   */
  async toArray(): Promise<Float32Array> {
    return unwrap(await this.engine.native.read(this.id));
  }

  /**
   * The value of a tensor of one element.
   *
   * @throws PotstillError as {@link Tensor.toArray}
   */
  async item(): Promise<number> {
    return unwrap(await this.engine.native.item(this.id));
  }

  #unary(op: UnaryOp): Tensor {
    return this.#make(this.#shape, (id) => this.engine.native.unary(id, op, this.id));
  }

  #binary(op: BinaryOp, other: Tensor): Tensor {
    const shape = this.#shape && other.#shape && broadcastShapes(this.#shape, other.#shape);
    return this.#make(shape, (id) => this.engine.native.binary(id, op, this.id, other.id));
  }

  #reduce(op: ReduceOp, axes: readonly number[] | undefined, keep: boolean): Tensor {
    const shape = this.#shape && reducedShape(this.#shape, axes ?? [...this.#shape.keys()], keep);
    const over = axes === undefined ? undefined : [...axes];
    return this.#make(shape, (id) => this.engine.native.reduce(id, op, this.id, over, keep));
  }

  #make(shape: Shape | undefined, enqueue: (id: number) => void): Tensor {
    return enqueueTensor(this.engine, shape, enqueue);
  }
}

/** Enqueues an operation that makes a tensor. */
export function enqueueTensor(engine: Engine, shape: Shape | undefined, enqueue: (id: number) => void): Tensor {
  const id = engine.allocate();
  try {
    enqueue(id);
  } catch (thrown) {
    engine.release([id]); // the arguments were refused: nothing was enqueued
    throw thrown;
  }
  return new Tensor(engine, id, shape);
}
