import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadEngine } from '../ts/native/index.ts';
import { silentProgress } from '../ts/progress.ts';
import { loadRecipe } from '../ts/recipe/index.ts';
import { train } from '../ts/train/train.ts';
import { writeEchoUnet } from './support/echo-unet.ts';
import { writeTinyImages } from './support/tiny-data.ts';
import { writeTinyLora } from './support/tiny-lora.ts';
import { writeTinyModel } from './support/tiny-model.ts';
import { writeTinySdxl } from './support/tiny-sdxl.ts';

const CONFIGS = join(import.meta.dirname, '..', 'configs');
/** What lies in configs/ and is not a recipe: models, their metrics, pictures. */
const NO_RECIPES = new Set(['package.json', 'model_index.json']);

/** Every recipe that the repository ships: the .json files of a folder and of the folders below that hold recipes. */
function findRecipes(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.json') && !NO_RECIPES.has(name))
    .map((name) => join(folder, name));
}

const FOLDERS = ['presets', 'examples', 'demo', 'demo/recipes', 'demo/recipes/adapters'].map((name) =>
  join(CONFIGS, name),
);

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

/** Small models and pictures in the place of those that presets and examples name. */
const tiny = mkdtempSync(join(tmpdir(), 'potstill-recipes-'));
const PICTURES = 4;
beforeAll(async () => {
  const engine = await loadEngine();
  await writeTinyModel(engine, join(tiny, 'sd15'), 1);
  await writeTinySdxl(engine, join(tiny, 'sdxl'), 2);
  await writeEchoUnet(engine, join(tiny, 'sd15-teacher'), 3);
  await writeTinyLora(engine, join(tiny, 'sd15-teacher'), join(tiny, 'sd15.safetensors'));
  await writeTinyLora(engine, join(tiny, 'sdxl'), join(tiny, 'sdxl.safetensors'));
  await writeTinyImages(engine, join(tiny, 'images'), PICTURES);
  const captions = Array.from({ length: PICTURES }, (_, index) => ({
    file: `${index}.png`,
    caption: `picture ${index}`,
  }));
  writeFileSync(join(tiny, 'images', 'captions.jsonl'), captions.map((line) => JSON.stringify(line)).join('\n'));
});
afterAll(() => rmSync(tiny, { recursive: true }));

const SHIPPED = ['presets', 'examples'].flatMap((name) => findRecipes(join(CONFIGS, name)));

/** Seconds on a quiet machine. */
const TIMEOUT_MS = 120_000;

test.each(SHIPPED)('%s trains', { timeout: TIMEOUT_MS }, async (file) => {
  const written = (await loadRecipe(file)).recipe;
  const kind = basename(file).startsWith('sdxl') ? 'sdxl' : 'sd15';
  const home = join(tiny, basename(file, '.json'));
  const steps = 2;
  // Nothing changes but what makes it large.
  const small = {
    'student.model': join(tiny, kind),
    ...Object.fromEntries(
      written.teachers.map((_, index) => [
        `teachers.${index}.model`,
        join(tiny, kind === 'sdxl' ? 'sdxl' : 'sd15-teacher'),
      ]),
    ),
    ...Object.fromEntries(
      written.teachers.flatMap(({ lora }, index) =>
        lora.map((_, place) => [`teachers.${index}.lora.${place}.file`, join(tiny, `${kind}.safetensors`)]),
      ),
    ),
    ...Object.fromEntries(written.data.map((_, index) => [`data.${index}.images`, join(tiny, 'images')])),
    ...Object.fromEntries(written.data.map((_, index) => [`data.${index}.size`, '[64,64]'])),
    'cache.dir': join(home, 'cache'),
    output: join(home, 'run'),
    'training.steps': steps,
    ...(written.sampling === undefined ? {} : { 'sampling.steps': 2 }),
  };
  const set = Object.entries(small).map(([key, value]) => `${key}=${value}`);
  const { recipe } = await loadRecipe(file, { set });
  const { signal } = new AbortController();
  const result = await train(recipe, { resume: false, progress: silentProgress, signal });
  expect(result.step).toBe(steps);
  expect(result.loss).toBeGreaterThan(0);
  expect(result.validation === undefined).toBe(written.training.validation === undefined);
  expect(existsSync(join(home, 'run', 'samples'))).toBe(written.sampling !== undefined);
});
