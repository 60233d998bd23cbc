import { z } from 'zod';
import { defineMethod, required } from './define.ts';

const options = z.strictObject({ id: z.literal('prior') });

/**
 * Prior prediction: the student goes on predicting what it predicted before training (itself with its adapter off), at
 * the same noise, timestep and prompt. For pictures of what must not change: as the method of a data entry beside others.
 */
export const prior = defineMethod({
  id: 'prior',
  options,
  needs: () => ({ fields: [], roles: ['student', 'prior'] }),
  step: (_phase, batch, roles) => [
    {
      prediction: roles.student.predict(batch, batch.text),
      target: required(roles, 'prior').predict(batch, batch.text),
    },
  ],
});
