import { expect, it } from 'vitest';
import { sizeOfView, viewKey } from './view.ts';

it('views are written as the sample key wants them', () => {
  expect(viewKey({ width: 512, height: 768, left: 0, top: 37, flipped: true })).toBe('512x768+0+37f');
  expect(sizeOfView('512x768+0+37f')).toEqual({ width: 512, height: 768 });
  expect(() => sizeOfView('512')).toThrow(RangeError);
});
