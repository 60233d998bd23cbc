import { expect, test } from 'vitest';
import { distance } from './distance.ts';

const teacher = Float32Array.of(0, 0, 0, 0);
const far = Float32Array.of(2, -2, 2, -2);

test("is the student's RMS over the undistilled model's, by prompts trained and held out", () => {
  const result = distance([
    { heldOut: false, teacher, student: Float32Array.of(1, -1, 1, -1), undistilled: far },
    { heldOut: true, teacher, student: Float32Array.of(2, 2, 2, 2), undistilled: far },
  ]);
  expect(result.trained).toBe(0.5);
  expect(result.heldOut).toBe(1);
  expect(result.all).toBeCloseTo(Math.sqrt(2.5) / 2, 12);
  expect(result.rms).toEqual({ student: Math.sqrt(2.5), undistilled: 2 });
});

test('says what it cannot compare', () => {
  expect(() => distance([])).toThrow('at least one picture');
  expect(() => distance([{ heldOut: false, teacher, student: teacher, undistilled: teacher }])).toThrow(
    'nothing to distil',
  );
  expect(() => distance([{ heldOut: false, teacher, student: new Float32Array(3), undistilled: far }])).toThrow('(3)');
});

test('a non-finite latent makes the distance non-finite instead of vanishing', () => {
  const broken = Float32Array.of(Number.NaN, 0, 0, 0);
  expect(distance([{ heldOut: false, teacher, student: broken, undistilled: far }]).all).toBeNaN();
});
