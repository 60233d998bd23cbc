import { z } from 'zod';
import { defineMethod } from './define.ts';

const options = z.strictObject({ id: z.literal('denoise') });

/** Ordinary training: the student learns to tell the noise from the data, at a fresh draw every step. No teacher. */
export const denoise = defineMethod({
  id: 'denoise',
  options,
  needs: () => ({ fields: [], roles: ['student'] }),
  step: (_phase, batch, { student }) => [
    { prediction: student.predict(batch, batch.text), target: student.truth(batch) },
  ],
});
