import { concat, Tensor } from '../native/index.ts';

/** Pictures of one size, [1, 3, H, W], side by side in rows of `columns`; missing places are white. */
export function grid(pictures: readonly Tensor[], columns: number): Tensor {
  const [first] = pictures;
  if (first === undefined) throw new RangeError('a grid needs at least one picture');
  const white = Tensor.scalar(first.engine, 1).broadcast(first.shape);
  const rows = Array.from({ length: Math.ceil(pictures.length / columns) }, (_, row) =>
    concat(
      Array.from({ length: columns }, (_, column) => pictures[row * columns + column] ?? white),
      3,
    ),
  );
  return concat(rows, 2);
}
