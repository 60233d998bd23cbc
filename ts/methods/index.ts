import { z } from 'zod';
import { cfg } from './cfg.ts';
import type { Method } from './define.ts';
import { delta } from './delta.ts';
import { denoise } from './denoise.ts';
import { multiTeacher } from './multi-teacher.ts';
import { prior } from './prior.ts';

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
export const methods = { cfg, delta, denoise, 'multi-teacher': multiTeacher, prior } as const;

/** A recipe's `method`: the options of one of the methods, told apart by `id`. */
export const methodOptions = z.discriminatedUnion('id', [
  cfg.options,
  delta.options,
  denoise.options,
  multiTeacher.options,
  prior.options,
]);

/** Options of one of the methods. */
export type MethodOptions = z.output<typeof methodOptions>;

/** The method that options were parsed for. */
export function methodOf({ id }: MethodOptions): Method {
  // Each method takes its own options, so the union of the methods would want the intersection of them; the `id` in the
  // options is what says that they belong together.
  return methods[id] as unknown as Method;
}
