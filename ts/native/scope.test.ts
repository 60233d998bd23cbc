import { expect, test } from 'vitest';
import { loadEngine } from './load-engine.ts';
import { keep, scope } from './scope.ts';
import { Tensor } from './tensor.ts';

const engine = await loadEngine({ threads: 1 });
const make = (): Tensor => Tensor.fromArray(engine, [1, 2], [2]);

test('frees what was made inside, on both sides of the boundary, except what is returned', async () => {
  const before = engine.liveHandles;
  const kept = scope(() => {
    const x = make();
    return { deep: [new Map([['sum', x.add(x).sum()]])] };
  });
  expect(engine.liveHandles).toBe(before + 1);
  expect(await engine.filledHandles()).toBe(engine.liveHandles);
  const sum = kept.deep[0]?.get('sum');
  expect(await sum?.item()).toBe(6);
  sum?.dispose();
  expect(await engine.filledHandles()).toBe(before);
});

test('holds across awaits, and scopes that run at the same time are apart', async () => {
  const before = engine.liveHandles;
  const work = async (): Promise<number> => {
    const x = make();
    const first = await x.sum().item();
    await new Promise((resolve) => setTimeout(resolve, 5));
    return first + (await x.mul(x).sum().item());
  };
  expect(await Promise.all([scope(work), scope(work)])).toEqual([8, 8]);
  expect(engine.liveHandles).toBe(before);
});

test('what an inner scope returns belongs to the outer one', async () => {
  const before = engine.liveHandles;
  const value = await scope(async () => {
    const inner = scope(() => make().add(make()));
    expect(engine.liveHandles).toBe(before + 1);
    return (await inner.sum().item()) as number;
  });
  expect(value).toBe(6);
  expect(engine.liveHandles).toBe(before);
});

test('frees when the body throws, at once or later', async () => {
  const before = engine.liveHandles;
  const fail = (): never => {
    make();
    throw new Error('in the body');
  };
  expect(() => scope(fail)).toThrow('in the body');
  await expect(scope(async () => fail())).rejects.toThrow('in the body');
  expect(engine.liveHandles).toBe(before);
});

test('keep takes a handle out of its scope; using frees at the end of a block', () => {
  const before = engine.liveHandles;
  const kept = scope(() => {
    const x = keep(make());
    return () => x;
  });
  expect(engine.liveHandles).toBe(before + 1);
  kept().dispose();
  {
    using x = make();
    expect(x.disposed).toBe(false);
  }
  expect(engine.liveHandles).toBe(before);
});
