import { z } from 'zod';
import { defineMethod, type TeacherPredictions } from './define.ts';
import { guide, rescaleGuidance } from './guidance.ts';
import type { Prediction } from './prediction.ts';
import { distil } from './teachers.ts';

/** No published teacher is sampled beyond this guidance; a larger number in a recipe is a slip. */
const MAX_GUIDANCE = 100;

const scale = z.number().min(0).max(MAX_GUIDANCE);

const options = z.strictObject({
  id: z.literal('cfg'),
  guidance: z
    .union([scale, z.tuple([scale, scale]).refine(([low, high]) => low <= high, 'the range must be [low, high]')])
    .describe('Guidance of the teachers that the student learns to do without: a number, or a range to draw from.'),
  rescale: z.number().min(0).max(1).default(0).describe('Share of guidance rescale (Lin et al. 2023) in the target.'),
});

/**
 * Guidance distillation: the student predicts at guidance 1 what its teachers predict under classifier-free guidance, so
 * that an image takes half the forwards. The cache holds the raw conditional and unconditional predictions, so the
 * guidance may change without rebuilding it.
 */
export const cfg = defineMethod({
  id: 'cfg',
  options,
  needs: () => ({ fields: ['cond', 'uncond'], roles: ['student'] }),
  step: (_phase, batch, { student }, rng, { options: { guidance, rescale } }) => {
    const [low, high] = typeof guidance === 'number' ? [guidance, guidance] : guidance;
    const scales = batch.perRow(rng.uniform('guidance', batch.size).map((u) => low + u * (high - low)));
    const guided = ({ id, cond, uncond }: TeacherPredictions): Prediction => {
      if (uncond === undefined) throw new RangeError(`the batch lacks unconditional predictions of teacher ${id}`);
      return rescaleGuidance(guide(cond, uncond, scales), cond, rescale);
    };
    return [distil(batch, student.predict(batch, batch.text), guided)];
  },
});
