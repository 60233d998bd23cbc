import { describe, expect, it } from 'vitest';
import { requireFiniteGradient, requireFiniteLosses } from './finite.ts';

describe('requireFiniteLosses', () => {
  it('names the step and the samples at fault, and lets numbers pass', () => {
    const losses = [1, Number.NaN, 2, Number.POSITIVE_INFINITY];
    expect(() => requireFiniteLosses(7, losses, ['a', 'b', 'c', 'd'])).toThrow(/step 7.*b, d/);
    expect(() => requireFiniteLosses(7, [1, 2], ['a', 'b'])).not.toThrow();
  });
});

describe('requireFiniteGradient', () => {
  it('names the step and the batch', () => {
    expect(() => requireFiniteGradient(3, Number.NaN, ['a', 'b'])).toThrow(/step 3.*a, b/);
    expect(() => requireFiniteGradient(3, 0, ['a'])).not.toThrow();
  });
});
