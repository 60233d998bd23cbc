import { describe, expect, it } from 'vitest';
import { drawTimestep } from './draws.ts';

const seeds = Array.from({ length: 4000 }, (_, index) => (BigInt(index) * 0x9e3779b97f4a7c15n) & 0xffffffffffffffffn);

describe('drawTimestep', () => {
  it('covers its range evenly and never reaches the end', () => {
    const timesteps = seeds.map((seed) => drawTimestep(seed, [0, 1000]));
    expect(Math.min(...timesteps)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...timesteps)).toBeLessThan(1000);
    expect(timesteps.every(Number.isInteger)).toBe(true);
    expect(timesteps.reduce((sum, t) => sum + t, 0) / timesteps.length / 1000).toBeCloseTo(0.5, 1);
  });

  it('keeps each draw in its own stratum', () => {
    for (const seed of seeds.slice(0, 100)) {
      for (const k of [0, 1, 2, 3]) {
        const t = drawTimestep(seed, [20, 980], k, 4);
        expect(Math.floor((t - 20) / 240)).toBe(k);
      }
    }
  });
});
