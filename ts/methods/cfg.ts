import { z } from 'zod';
import { defineMethod, type TeacherPredictions } from './define.ts';
import { guide, rescaleGuidance } from './guidance.ts';
import { guidanceOfRows, guidanceOption } from './guidance-options.ts';
import type { Point, Prediction } from './prediction.ts';
import { rollout } from './rollout.ts';
import { distil } from './teachers.ts';

/** Beyond this a step of training costs more than a hundred forwards. */
const MAX_ROLLOUT = 64;

const options = z.strictObject({
  id: z.literal('cfg'),
  guidance: guidanceOption.describe(
    'Guidance of the teachers that the student learns to do without: a number, or a range to draw from.',
  ),
  rescale: z.number().min(0).max(1).default(0).describe('Share of guidance rescale (Lin et al. 2023) in the target.'),
  rolloutSteps: z
    .int()
    .min(1)
    .max(MAX_ROLLOUT)
    .default(1)
    .describe(
      'Guided steps of the teacher that the student learns to do in one; above 1 the teachers are loaded in training.',
    ),
  rolloutStride: z.int().min(1).max(500).default(20).describe('Timesteps of each of these steps.'),
  rolloutBlend: z
    .number()
    .min(0)
    .max(1)
    .default(1)
    .describe("Share of these steps in the target; the rest is the teacher's prediction at the point itself."),
});

/**
 * Guidance distillation: the student predicts at guidance 1 what its teachers predict under classifier-free guidance, so
 * that an image takes half the forwards. The cache holds the raw conditional and unconditional predictions, so the
 * guidance may change without rebuilding it.
 */
export const cfg = defineMethod({
  id: 'cfg',
  options,
  needs: ({ rolloutSteps, rolloutBlend }) => ({
    fields: ['cond', 'uncond'],
    roles: rolloutSteps > 1 && rolloutBlend > 0 ? ['student', 'teachers'] : ['student'],
  }),
  step: (_phase, batch, { student, teachers }, rng, { options: { guidance, rescale, ...walk } }) => {
    const scales = guidanceOfRows(guidance, batch, rng);
    const mix = (cond: Prediction, uncond: Prediction): Prediction =>
      rescaleGuidance(guide(cond, uncond, scales), cond, rescale);
    const guided = ({ id, cond, uncond }: TeacherPredictions): Prediction => {
      if (uncond === undefined) throw new RangeError(`the batch lacks unconditional predictions of teacher ${id}`);
      const ask = (point: Point): Prediction => {
        const teacher = teachers?.get(id);
        if (teacher === undefined) throw new RangeError(`teacher ${id} is not there to be asked`);
        return mix(teacher.predict(point, batch.text), teacher.predict(point, batch.unconditional()));
      };
      const { rolloutSteps: steps, rolloutStride: stride, rolloutBlend: blend } = walk;
      return rollout(batch, mix(cond, uncond), ask, { steps, stride, blend });
    };
    return [distil(batch, student.predict(batch, batch.text), guided)];
  },
});
