import { describe, expect, it } from 'vitest';
import { centreView, coverSize, viewKey } from './view.ts';

describe('coverSize', () => {
  it('fits one side exactly and never falls below the target', () => {
    const target = { width: 512, height: 512 };
    expect(coverSize({ width: 1000, height: 500 }, target)).toEqual({ width: 1024, height: 512 });
    expect(coverSize({ width: 300, height: 1000 }, target)).toEqual({ width: 512, height: 1707 });
    expect(coverSize({ width: 64, height: 64 }, target)).toEqual(target);
    for (let width = 1; width < 200; width += 7) {
      for (let height = 1; height < 200; height += 5) {
        const scaled = coverSize({ width, height }, { width: 64, height: 96 });
        expect(Math.min(scaled.width - 64, scaled.height - 96)).toBe(0);
      }
    }
  });
});

describe('centreView', () => {
  it('takes the middle', () => {
    const view = centreView({ width: 1001, height: 500 }, { width: 512, height: 512 }, true);
    expect(view).toEqual({ width: 512, height: 512, left: 256, top: 0, flipped: true });
    expect(viewKey(view)).toBe('512x512+256+0f');
  });
});
