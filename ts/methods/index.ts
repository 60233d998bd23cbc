import { z } from 'zod';
import { cfg } from './cfg.ts';
import { denoise } from './denoise.ts';
import { multiTeacher } from './multi-teacher.ts';

export type {
  Batch,
  CacheField,
  Method,
  Needs,
  Role,
  Roles,
  TeacherPredictions,
  Term,
  TextConditioning,
} from './define.ts';
export { defineMethod } from './define.ts';

/** Every method by its name in recipes. */
export const methods = { cfg, denoise, 'multi-teacher': multiTeacher } as const;

/** A recipe's `method`: the options of one of the methods, told apart by `id`. */
export const methodOptions = z.discriminatedUnion('id', [cfg.options, denoise.options, multiTeacher.options]);
