import { z } from 'zod';
import type { Tensor } from '../native/index.ts';
import { type Batch, defineMethod, required, type TeacherPredictions } from './define.ts';
import { guidanceOfRows, guidanceOption } from './guidance-options.ts';
import { asKind, type Prediction } from './prediction.ts';
import { distil } from './teachers.ts';

const options = z.strictObject({
  id: z.literal('delta'),
  guidance: guidanceOption.describe(
    'Factor on what the adapter changes: about the guidance that the student was distilled with, 1 for a student that ' +
      'was not; a number, or a range to draw from.',
  ),
  unconditional: z
    .enum(['measured', 'exact', 'ignored'])
    .default('measured')
    .describe(
      'What the adapter changes without a caption: "measured": taken as nothing and its size logged; "exact": part of ' +
        'the guided target; "ignored": not cached, which halves the predictions to be made.',
    ),
});

/**
 * Delta transfer: what adapters change on their teachers' models is taught to another model of the same latents. The
 * student's target is its own prediction without its adapter plus guidance times the change,
 *
 *     s_off + g·(b_on − b_off),
 *
 * which is the guided change where the adapters leave unconditional predictions as they are (Δu = 0); with `exact`
 * s_off + Δu + g·(Δc − Δu). So a student that was distilled to do without guidance keeps that, and learns the change.
 */
export const delta = defineMethod({
  id: 'delta',
  options,
  needs: ({ unconditional }) => ({
    fields: unconditional === 'ignored' ? ['cond'] : ['cond', 'uncond'],
    roles: ['student', 'prior'],
    bases: true,
  }),
  step: (_phase, batch, roles, rng, { options: { guidance, unconditional } }) => {
    const prediction = roles.student.predict(batch, batch.text);
    const own = required(roles, 'prior').predict(batch, batch.text);
    const scales = guidanceOfRows(guidance, batch, rng);
    const isExact = unconditional === 'exact';
    const target = (teacher: TeacherPredictions): Prediction => {
      const cond = changeOf(teacher, 'cond', prediction, batch);
      if (!isExact) return { ...own, tensor: own.tensor.add(cond.mul(scales)) };
      const uncond = changeOf(teacher, 'uncond', prediction, batch);
      return { ...own, tensor: own.tensor.add(uncond).add(cond.sub(uncond).mul(scales)) };
    };
    const term = distil(batch, prediction, target);
    if (unconditional === 'ignored') return [term];
    return [{ ...term, figures: { uncondRatio: uncondRatio(batch, prediction) } }];
  },
});

/** What a teacher's adapters change at a batch's draws, in the kind of another prediction, in which changes are linear. */
function changeOf(
  { id, base, ...on }: TeacherPredictions,
  field: 'cond' | 'uncond',
  { kind }: Prediction,
  batch: Batch,
): Tensor {
  const [trained, off] = [on[field], base?.[field]];
  if (trained === undefined || off === undefined) {
    throw new RangeError(`the batch lacks ${field} predictions of teacher ${id} with and without its adapters`);
  }
  return asKind(trained, kind, batch).tensor.sub(asKind(off, kind, batch).tensor);
}

/** ‖Δu‖/‖Δc‖ over a batch and all teachers: how far the change without a caption is from being nothing. */
function uncondRatio(batch: Batch, prediction: Prediction): Tensor {
  const squares = (field: 'cond' | 'uncond'): Tensor =>
    batch.teachers
      .map((teacher) => changeOf(teacher, field, prediction, batch).square().sum())
      .reduce((sum, square) => sum.add(square));
  return squares('uncond').div(squares('cond')).sqrt();
}
