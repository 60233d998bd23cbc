import { z } from 'zod';

const model = z.strictObject({
  id: z.enum(['teacher', 'student', 'undistilled']),
  label: z.string(),
  /** Classifier-free guidance scale; 1 means that only the conditional prediction is computed. */
  guidance: z.number(),
  /** UNet evaluations of one batch item for one picture. */
  forwardsPerImage: z.number(),
  /** Wall-clock seconds for one picture, decoding left out; the mean over all pictures. */
  secondsPerImage: z.number(),
});

/**
 * How close a student came to its guided teacher: what `evaluation.json` in a run's folder holds.
 *
 * The distance is the root mean square difference of final latents, from the same noise, sampler and steps, divided by
 * the same figure of the undistilled model at the student's guidance: 1 is no progress, 0 is the teacher itself.
 */
export const evaluationSchema = z.strictObject({
  version: z.literal(1),
  sampler: z.string(),
  steps: z.number().int().positive(),
  size: z.tuple([z.number().int(), z.number().int()]),
  seeds: z.array(z.number().int()),
  prompts: z.array(z.strictObject({ text: z.string(), heldOut: z.boolean() })),
  models: z.array(model),
  /** Distances over the prompts that were trained on, those held out, and all; null where there are none. */
  distance: z.strictObject({ trained: z.number().nullable(), heldOut: z.number().nullable(), all: z.number() }),
  /** Root mean square differences from the teacher, in latent units, over all prompts and seeds. */
  rms: z.strictObject({ student: z.number(), undistilled: z.number() }),
  images: z.array(
    z.strictObject({
      prompt: z.number().int(),
      seed: z.number().int(),
      /** PNG files, relative to `evaluation.json`. */
      files: z.strictObject({ teacher: z.string(), student: z.string(), undistilled: z.string() }),
    }),
  ),
});

/** See {@link evaluationSchema}. */
export type Evaluation = z.infer<typeof evaluationSchema>;
/** One of the three models that are compared. */
export type EvaluatedModel = Evaluation['models'][number];
