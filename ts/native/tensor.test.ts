import { afterAll, expect, test } from 'vitest';
import { concat } from './concat.ts';
import type { Engine } from './engine.ts';
import { gradients } from './gradients.ts';
import { loadEngine } from './load-engine.ts';
import { Tensor } from './tensor.ts';

const engine: Engine = await loadEngine({ threads: 2 });
const of = (values: readonly number[], shape: readonly number[] = [values.length]): Tensor =>
  Tensor.fromArray(engine, values, shape);
const read = async (tensor: Tensor): Promise<number[]> => [...(await tensor.toArray())];

afterAll(() => engine.settled());

const X = [0.5, 2, 4, 9] as const;
const Y = [1, -2, 0.25, 3] as const;
const zip = (f: (x: number, y: number) => number): number[] => X.map((x, i) => f(x, Y[i] ?? 0));

test.each([
  ['add', zip((x, y) => x + y)],
  ['sub', zip((x, y) => x - y)],
  ['mul', zip((x, y) => x * y)],
  ['div', zip((x, y) => x / y)],
] as const)('%s is that of numbers', async (op, expected) => {
  expect(await read(of(X)[op](of(Y)))).toEqual(expected.map(Math.fround));
});

test.each([
  ['neg', (x: number) => -x],
  ['square', (x: number) => x * x],
  ['sqrt', Math.sqrt],
  ['exp', Math.exp],
  ['log', Math.log],
  ['abs', Math.abs],
] as const)('%s is that of numbers', async (op, f) => {
  const found = await read(of(X)[op]());
  found.forEach((value, i) => {
    expect(value).toBeCloseTo(f(X[i] ?? 0), op === 'exp' ? 2 : 5);
  });
});

test('affine, scale and clamp', async () => {
  expect(await read(of(X).affine(2, 1))).toEqual([2, 5, 9, 19]);
  expect(await read(of(X).scale(-1))).toEqual([-0.5, -2, -4, -9]);
  expect(await read(of(X).clamp(1, 4))).toEqual([1, 2, 4, 4]);
});

test('operands broadcast as in numpy', async () => {
  const sum = of([1, 2, 3], [3, 1]).add(of([10, 20]));
  expect(sum.shape).toEqual([3, 2]);
  expect(await read(sum)).toEqual([11, 21, 12, 22, 13, 23]);
  const wide = of([1, 2], [2, 1]).broadcast([2, 2, 3]);
  expect(wide.shape).toEqual([2, 2, 3]);
  expect(await read(wide)).toEqual([1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2]);
});

test('reductions, with shapes known at once', async () => {
  const x = of([1, 2, 3, 4, 5, 6], [2, 3]);
  expect(x.sum([0]).shape).toEqual([3]);
  expect(await read(x.sum([0]))).toEqual([5, 7, 9]);
  expect(x.mean([1], true).shape).toEqual([2, 1]);
  expect(await read(x.mean([1], true))).toEqual([2, 5]);
  expect(x.mean().shape).toEqual([]);
  expect(await x.mean().item()).toBe(3.5);
});

test('reshape, slice and concat', async () => {
  const x = of([1, 2, 3, 4, 5, 6], [2, 3]);
  expect(await read(x.reshape([3, 2]).slice(0, 1, 2))).toEqual([3, 4, 5, 6]);
  const joined = concat([x, x.slice(1, 0, 1)], 1);
  expect(joined.shape).toEqual([2, 4]);
  expect(await read(joined)).toEqual([1, 2, 3, 1, 4, 5, 6, 4]);
});

test('gradients of a mean square error', async () => {
  const prediction = of([1, 2, 3], [3]).leaf();
  const loss = prediction
    .sub(of([0, 4, 3]))
    .square()
    .mean();
  expect(await loss.item()).toBeCloseTo(5 / 3, 6);
  const [gradient] = gradients(loss, [prediction]) as [Tensor];
  expect(gradient.shape).toEqual([3]);
  const found = await read(gradient);
  [2 / 3, -4 / 3, 0].forEach((value, i) => {
    expect(found[i]).toBeCloseTo(value, 6);
  });
});

test('gradients flow through every shape operation and stop at detach', async () => {
  const x = of([1, 2, 3, 4], [2, 2]).leaf();
  const y = of([5, 6], [2]).leaf();
  const kept = concat([x.slice(1, 0, 1).reshape([2]), y], 0).mul(concat([y.detach(), y.detach()], 0));
  const [dx, dy] = gradients(kept.sum(), [x, y]) as [Tensor, Tensor];
  expect(await read(dx)).toEqual([5, 0, 6, 0]);
  expect(await read(dy)).toEqual([5, 6]);
});

test('weights of rows and losses per row', async () => {
  const x = of([1, 2, 3, 4], [2, 2]).leaf();
  const perRow = x.square().mean([1]);
  const [dx] = gradients(perRow.mul(of([1, 3])).mean(), [x]) as [Tensor];
  expect(await read(perRow)).toEqual([2.5, 12.5]);
  expect(await read(dx)).toEqual([0.5, 1, 4.5, 6]);
});

test('an operation that cannot be done surfaces where its result is read, with its name and shapes', async () => {
  const wrong = of([1, 2, 3]).add(of([1, 2]));
  const later = wrong.mul(wrong).sum();
  const error = { code: 'ERR_TENSOR_SHAPE', kind: 'input', where: 'add([3], [2])' };
  await expect(later.item()).rejects.toMatchObject(error);
  await expect(wrong.toArray()).rejects.toMatchObject(error);
  expect(() => wrong.shape).toThrow('do not fit');
  expect(await of([1]).item()).toBe(1);
});

test('misuse is an error that says what to do', async () => {
  expect(() => of([1, 2], [3])).toThrow('2 values do not fill the shape [3]');
  await expect(of([1, 2]).item()).rejects.toMatchObject({ code: 'ERR_TENSOR_SHAPE', where: 'item' });
  const x = of([1]).leaf();
  const [unrelated] = gradients(of([2]).leaf().sum(), [x]) as [Tensor];
  await expect(unrelated.item()).rejects.toMatchObject({ code: 'ERR_GRADIENT_GRAPH', where: 'gradients' });
  const [notScalar] = gradients(x.broadcast([3]), [x]) as [Tensor];
  await expect(notScalar.item()).rejects.toMatchObject({ where: 'gradients' });
  await expect(x.slice(0, 4, 1).item()).rejects.toMatchObject({ where: 'slice([1])' });
  await expect(x.reshape([7]).item()).rejects.toMatchObject({ where: 'reshape([1])' });
});

test('a graph is walked once', async () => {
  const x = of([3]).leaf();
  const loss = x.square().sum();
  const [first] = gradients(loss, [x]) as [Tensor];
  const [second] = gradients(loss, [x]) as [Tensor];
  expect(await first.item()).toBe(6);
  await expect(second.item()).rejects.toMatchObject({ code: 'ERR_GRADIENT_GRAPH' });
});

test('large tensors pass the boundary whole', async () => {
  const values = Float32Array.from({ length: 1 << 20 }, (_, i) => i);
  const tensor = Tensor.fromArray(engine, values, [1024, 1024]);
  values.fill(0); // the engine has a copy
  expect((await tensor.toArray()).at(-1)).toBe((1 << 20) - 1);
});

test('a disposed handle is refused by name', () => {
  const x = of([1]);
  x.dispose();
  x.dispose();
  expect(() => x.add(x)).toThrow('a Tensor was used after it was freed');
});
