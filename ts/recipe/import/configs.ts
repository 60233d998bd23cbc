import { z } from 'zod';

/**
 * The two configs of the multi-teacher SDXL distillation project whose caches have the files layout: one for each teacher's
 * cache, one for the training. Both are JSON with comments; what is not named here is passed over and told of.
 */

const count = z.int().min(1);
const text = z.string().min(1);
/** Width and height. */
const bucket = z.tuple([count, count]);

/** Builds the cache of one teacher. */
export const builderConfig = z.looseObject({
  device: z.string().optional(),
  teacher: z.looseObject({ checkpoint_path: text, teacher_id: text, use_bf16: z.boolean().optional() }),
  data: z.looseObject({
    image_dir: text,
    size: z.union([count, bucket]).optional(),
    bucket: z.looseObject({ enabled: z.boolean().default(true), resolutions: z.array(bucket).default([]) }).optional(),
    latent_cache: z.looseObject({ enabled: z.boolean().optional(), cache_dir: text.optional() }).optional(),
  }),
  cache: z
    .looseObject({
      output_dir: text.optional(),
      version: z.union([z.string(), z.number()]).optional(),
      dtype: z.string().optional(),
      base_seed: z.int().optional(),
      min_timestep: z.int().min(0).optional(),
      max_timestep: z.int().min(1).optional(),
      skip_existing: z.boolean().optional(),
    })
    .prefault({}),
  model: z.looseObject({ id: text.nullish(), text_encoder_id: text.nullish() }).prefault({}),
});

/** Trains a student on the caches of several teachers. */
export const trainingConfig = z.looseObject({
  device: z.string().optional(),
  run: z.looseObject({ name: text.optional(), output_root: text.optional() }).prefault({}),
  student: z.looseObject({
    checkpoint_path: text,
    text_encoder_id: text.nullish(),
    use_bf16: z.boolean().optional(),
    use_gradient_checkpointing: z.boolean().optional(),
    use_ema: z.boolean().optional(),
    ema_decay: z.number().optional(),
  }),
  teachers: z
    .array(z.looseObject({ teacher_id: text, cache_dir: text.optional(), weight: z.number().min(0).default(1) }))
    .min(1),
  training: z
    .looseObject({
      batch_size: count.optional(),
      num_steps: count.optional(),
      lr: z.number().positive().optional(),
      loss_type: z.string().optional(),
    })
    .prefault({}),
});

export type BuilderConfig = z.output<typeof builderConfig>;
export type TrainingConfig = z.output<typeof trainingConfig>;

/** Which config an object is, by the sections that only it has. */
export function kindOf(value: unknown): 'builder' | 'training' | 'onetrainer' | undefined {
  const has = (key: string): boolean => typeof value === 'object' && value !== null && Object.hasOwn(value, key);
  if (has('teacher') && has('data')) return 'builder';
  if (has('student') && has('teachers')) return 'training';
  return has('training_method') || has('model_type') ? 'onetrainer' : undefined;
}

/** The keys that a schema does not name, as paths. */
export function unknownKeys(value: unknown, schema: z.ZodType, path = ''): string[] {
  const object = innermost(schema);
  if (object instanceof z.ZodArray && Array.isArray(value)) {
    return value.flatMap((each, index) => unknownKeys(each, object.element as z.ZodType, `${path}[${index}]`));
  }
  if (!(object instanceof z.ZodObject) || typeof value !== 'object' || value === null) return [];
  const shape = object.shape as Readonly<Record<string, z.ZodType>>;
  return Object.entries(value).flatMap(([key, child]) => {
    const full = path === '' ? key : `${path}.${key}`;
    const known = Object.hasOwn(shape, key) ? shape[key] : undefined;
    return known === undefined ? [full] : unknownKeys(child, known, full);
  });
}

/** A schema without its defaults and permissions to be absent. */
function innermost(schema: z.ZodType): z.ZodType {
  const wraps = schema instanceof z.ZodOptional || schema instanceof z.ZodNullable;
  if (wraps || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault) {
    return innermost(schema.unwrap() as z.ZodType);
  }
  return schema;
}
