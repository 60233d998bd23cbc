/** Sizes of a tensor's axes, outermost first; [] is a scalar. */
export type Shape = readonly number[];

/** Number of values. */
export function elements(shape: Shape): number {
  return shape.reduce((product, size) => product * size, 1);
}

/**
 * numpy's rule: shapes are aligned at the last axis, and sizes must agree or be 1. Undefined when they do not.
 */
export function broadcastShapes(a: Shape, b: Shape): Shape | undefined {
  const rank = Math.max(a.length, b.length);
  const result: number[] = [];
  for (let axis = 0; axis < rank; axis++) {
    const left = a[a.length - rank + axis] ?? 1;
    const right = b[b.length - rank + axis] ?? 1;
    if (left !== right && left !== 1 && right !== 1) return undefined;
    result.push(left === 1 ? right : left);
  }
  return result;
}

/** The shape after reducing over `axes`; undefined when one of them does not exist. */
export function reducedShape(shape: Shape, axes: readonly number[], keep: boolean): Shape | undefined {
  if (axes.some((axis) => !(axis >= 0 && axis < shape.length))) return undefined;
  return keep
    ? shape.map((size, axis) => (axes.includes(axis) ? 1 : size))
    : shape.filter((_, axis) => !axes.includes(axis));
}

/** The shape of tensors laid end to end along `axis`; undefined when they differ elsewhere. */
export function concatenatedShape(shapes: readonly Shape[], axis: number): Shape | undefined {
  const [first] = shapes;
  if (first === undefined || !(axis >= 0 && axis < first.length)) return undefined;
  const fits = (shape: Shape): boolean =>
    shape.length === first.length && shape.every((size, at) => at === axis || size === first[at]);
  if (!shapes.every(fits)) return undefined;
  const total = shapes.reduce((sum, shape) => sum + (shape[axis] ?? 0), 0);
  return first.map((size, at) => (at === axis ? total : size));
}

/** A shape for people: `[2, 3]`. */
export function formatShape(shape: Shape | undefined): string {
  return shape === undefined ? 'of unknown shape' : `[${shape.join(', ')}]`;
}
