import type { Batch, TeacherPredictions, Term } from './define.ts';
import { asKind, type Prediction } from './prediction.ts';

/**
 * The term of a student that learns from several teachers: the target is Σ wᵢ·targetᵢ in the student's kind, and the loss
 * against each teacher's own target is logged beside it.
 *
 * @param targetOf what one teacher would have the student predict
 */
export function distil(
  batch: Batch,
  prediction: Prediction,
  targetOf: (teacher: TeacherPredictions) => Prediction,
): Term {
  const targets = batch.teachers.map((teacher) => ({
    id: teacher.id,
    weight: teacher.weight,
    target: asKind(targetOf(teacher), prediction.kind, batch),
  }));
  const [first, ...rest] = targets;
  if (first === undefined) throw new RangeError('distillation needs at least one teacher');
  const sum = rest.reduce(
    (mean, { weight, target }) => mean.add(target.tensor.scale(weight)),
    first.target.tensor.scale(first.weight),
  );
  return {
    prediction,
    target: rest.length === 0 ? first.target : { ...first.target, tensor: sum },
    also: Object.fromEntries(targets.map(({ id, target }) => [id, target])),
  };
}
