import { z } from 'zod';

/** A difference of latents, which are of order one, beyond this is none that a loss should bend at. */
const MAX_BEND = 100;

const c = z.number().positive().max(1).default(0.1).describe('Where the distance turns from a square into a line.');
const course = z
  .enum(['constant', 'exponential', 'snr'])
  .default('constant')
  .describe('How c goes with the timestep: "exponential": c^(t/1000); "snr": (1 − c)/(1 + σ)² + c.');

/** A recipe's `training.loss`: the distance of a prediction from its target. */
export const lossOptions = z.discriminatedUnion('id', [
  z.strictObject({ id: z.literal('mse') }),
  z.strictObject({
    id: z.literal('huber'),
    delta: z.number().positive().max(MAX_BEND).default(1).describe('Where the square turns into a line.'),
  }),
  z.strictObject({ id: z.literal('pseudo-huber'), c, schedule: course }),
  z.strictObject({ id: z.literal('smooth-l1'), c, schedule: course }),
  z.strictObject({ id: z.literal('log-cosh') }),
]);

/** A recipe's `training.weighting`: how much the loss of a row counts, by its timestep. */
export const weightingOptions = z.discriminatedUnion('id', [
  z.strictObject({ id: z.literal('none') }),
  z.strictObject({
    id: z.literal('min-snr'),
    gamma: z.number().positive().max(1000).default(5).describe('Signal-to-noise ratio from which rows count less.'),
  }),
  z.strictObject({ id: z.literal('debiased') }),
]);

/** How far a prediction is from its target. */
export type LossOptions = z.output<typeof lossOptions>;
/** How much each timestep counts. */
export type WeightingOptions = z.output<typeof weightingOptions>;
