import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadRecipe } from '../ts/recipe/index.ts';

const CONFIGS = join(import.meta.dirname, '..', 'configs');
/** What lies in configs/ and is not a recipe: models, their metrics, pictures. */
const NO_RECIPES = new Set(['package.json', 'model_index.json']);

/** Every recipe that the repository ships: the .json files of a folder and of the folders below that hold recipes. */
function findRecipes(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.json') && !NO_RECIPES.has(name))
    .map((name) => join(folder, name));
}

const FOLDERS = ['presets', 'examples', 'demo', 'demo/recipes'].map((name) => join(CONFIGS, name));

test.each(FOLDERS.filter(existsSync).flatMap(findRecipes))('%s is a recipe', async (file) => {
  const { recipe } = await loadRecipe(file);
  expect(recipe.name).not.toBe('');
  // Everything that an example names is in the repository.
  if (file.includes('/examples/')) {
    for (const { images } of recipe.data) expect(statSync(images).isDirectory(), images).toBe(true);
    for (const { model } of [recipe.student, ...recipe.teachers]) {
      expect(existsSync(join(model, 'model_index.json')), model).toBe(true);
    }
  }
});
