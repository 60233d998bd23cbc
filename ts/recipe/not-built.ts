import type { Problem } from './problems.ts';
import type { Recipe } from './schema.ts';

/** What a valid recipe asks for that this version cannot do, each named by its value's path. */
export function findNotBuilt(recipe: Recipe): Problem[] {
  const problems: Problem[] = [];
  const refuse = (path: readonly PropertyKey[], name: string, remedy: string): void => {
    problems.push({ code: 'ERR_NOT_BUILT', path, what: `${name} is not built yet`, remedy });
  };
  if (recipe.device === 'cuda') refuse(['device'], 'device "cuda"', 'Use "cpu" or "auto".');
  for (const [index, teacher] of recipe.teachers.entries()) {
    if (teacher.lora.length > 0) refuse(['teachers', index, 'lora'], 'a LoRA on a teacher', 'Merge it into the model.');
    if (teacher.storage !== 'f32') refuse(['teachers', index, 'storage'], `storage "${teacher.storage}"`, 'Use "f32".');
  }
  if (recipe.cache.layout !== 'shards') refuse(['cache', 'layout'], 'layout "files"', 'Use "shards".');
  return problems;
}
