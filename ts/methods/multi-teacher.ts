import { z } from 'zod';
import { defineMethod } from './define.ts';
import { distil } from './teachers.ts';

const options = z.strictObject({ id: z.literal('multi-teacher') });

/** The student learns the weighted mean of its teachers' conditional predictions; one teacher is the ordinary case. */
export const multiTeacher = defineMethod({
  id: 'multi-teacher',
  options,
  needs: () => ({ fields: ['cond'], roles: ['student'] }),
  step: (_phase, batch, { student }) => [distil(batch, student.predict(batch, batch.text), (teacher) => teacher.cond)],
});
