import type { Problem } from './problems.ts';
import type { Recipe } from './schema.ts';

/** What a valid recipe asks for that this version cannot do, each named by its value's path. */
export function findNotBuilt(recipe: Recipe): Problem[] {
  const problems: Problem[] = [];
  const refuse = (path: readonly PropertyKey[], name: string, remedy: string): void => {
    problems.push({ code: 'ERR_NOT_BUILT', path, what: `${name} is not built yet`, remedy });
  };
  for (const [index, teacher] of recipe.teachers.entries()) {
    if (teacher.storage !== 'f32') refuse(['teachers', index, 'storage'], `storage "${teacher.storage}"`, 'Use "f32".');
  }
  return problems;
}
