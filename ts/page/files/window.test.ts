import { expect, test } from 'vitest';
import { ReadWindow } from './window.ts';

const MIB = 1 << 20;

test('answers small reads out of one larger one, and holds no more than that', () => {
  const asked: [string, number, number][] = [];
  const freed: number[] = [];
  const window = new ReadWindow(
    (path, offset, length) => {
      asked.push([path, offset, length]);
      return Uint8Array.from({ length }, (_, index) => (offset + index) % 251);
    },
    (bytes) => freed.push(bytes.length),
  );
  const size = 3 * MIB;
  for (const [offset, length] of [
    [0, 8],
    [8, 100],
    [MIB - 4, 4],
    [MIB - 4, 8],
    [size - 10, 10],
    [0, 2 * MIB],
  ] as const) {
    const bytes = window.read('a', offset, length, size);
    expect([bytes.length, bytes[0], bytes.at(-1)]).toEqual([length, offset % 251, (offset + length - 1) % 251]);
  }
  expect(asked).toEqual([
    ['a', 0, MIB],
    ['a', MIB - 4, MIB],
    ['a', size - 10, 10],
    ['a', 0, 2 * MIB],
  ]);
  window.read('b', size - 10, 10, size);
  expect(asked.at(-1)).toEqual(['b', size - 10, 10]);
  expect(freed).toEqual([MIB, MIB, 10, 2 * MIB]);
});
