import { describe, expect, it } from 'vitest';
import { normalQuantile, quantile } from './distribution.ts';
import { drawTimestep } from './draws.ts';

describe('normalQuantile', () => {
  // scipy.stats.norm.ppf
  it.each([
    [0.5, 0],
    [0.84134474606854293, 1],
    [0.97724986805182079, 2],
    [0.001, -3.0902323061678132],
    [1e-9, -5.9978070150076865],
  ])('of %d', (p, z) => {
    expect(normalQuantile(p)).toBeCloseTo(z, 7);
    if (p !== 0.5) expect(normalQuantile(1 - p)).toBeCloseTo(-z, p < 1e-6 ? 5 : 7);
  });
});

describe('quantile', () => {
  it('is the place itself of a uniform distribution, and shifts as flow matching does', () => {
    expect(quantile({ id: 'uniform', shift: 1 }, 0.25)).toBe(0.25);
    expect(quantile({ id: 'uniform', shift: 3 }, 0.25)).toBeCloseTo(0.5, 12);
  });

  it('of a logit-normal is the logistic function of the normal quantile', () => {
    expect(quantile({ id: 'logit-normal', mean: 0, std: 1, shift: 1 }, 0.5)).toBeCloseTo(0.5, 9);
    expect(quantile({ id: 'logit-normal', mean: 1, std: 0.5, shift: 1 }, 0.84134474606854293)).toBeCloseTo(
      1 / (1 + Math.exp(-1.5)),
      7,
    );
  });
});

describe('timesteps of a distribution', () => {
  const draws = (distribution: Parameters<typeof drawTimestep>[4], range: readonly [number, number]): number[] =>
    Array.from({ length: 2000 }, (_, i) => drawTimestep(BigInt(i), range, 0, 1, distribution));
  const share = (values: readonly number[], isIn: (value: number) => boolean): number =>
    values.filter(isIn).length / values.length;

  it('stay within their range and gather where the distribution has its mass', () => {
    const middle = draws({ id: 'logit-normal', mean: 0, std: 0.5, shift: 1 }, [100, 900]);
    expect(Math.min(...middle)).toBeGreaterThanOrEqual(100);
    expect(Math.max(...middle)).toBeLessThan(900);
    // P(|z| < ln 3 / 0.5) of a normal z: between a quarter and three quarters of the range.
    expect(share(middle, (t) => t >= 300 && t < 700)).toBeCloseTo(0.972, 1);
    expect(share(draws({ id: 'uniform', shift: 3 }, [0, 1000]), (t) => t >= 500)).toBeCloseTo(0.75, 1);
  });

  it('are those of before without a distribution', () => {
    expect(draws({ id: 'uniform', shift: 1 }, [0, 1000])).toEqual(draws(undefined, [0, 1000]));
  });
});
