import { describe, expect, it } from 'vitest';
import { aspectSizes } from './aspect.ts';

describe('aspectSizes', () => {
  it("are kohya's buckets for 512²", () => {
    const sizes = aspectSizes({ width: 512, height: 512 }, { divisor: 64, min: 256, max: 1024 });
    // sd-scripts' make_bucket_resolutions((512, 512), 256, 1024, 64)
    expect(sizes.map(({ width, height }) => [width, height])).toEqual([
      [256, 832],
      [256, 896],
      [256, 960],
      [256, 1024],
      [320, 704],
      [320, 768],
      [384, 640],
      [448, 576],
      [512, 512],
      [576, 448],
      [640, 384],
      [704, 320],
      [768, 320],
      [832, 256],
      [896, 256],
      [960, 256],
      [1024, 256],
    ]);
  });

  it('have sides within the bounds and no larger an area', () => {
    const sizes = aspectSizes({ width: 96, height: 64 }, { divisor: 8, min: 32, max: 160 });
    expect(sizes.length).toBeGreaterThan(5);
    for (const { width, height } of sizes) {
      expect(width * height).toBeLessThanOrEqual(96 * 64);
      expect([width % 8, height % 8]).toEqual([0, 0]);
      expect(Math.min(width, height)).toBeGreaterThanOrEqual(32);
      expect(Math.max(width, height)).toBeLessThanOrEqual(160);
    }
  });

  it('are none where nothing fits', () => {
    expect(aspectSizes({ width: 64, height: 64 }, { divisor: 64, min: 256, max: 1024 })).toEqual([]);
  });
});
