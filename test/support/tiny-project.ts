import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Engine } from '../../ts/native/engine.ts';
import { loadRecipe, type ResolvedRecipe } from '../../ts/recipe/index.ts';
import { writeEchoUnet } from './echo-unet.ts';
import { writeTinyModel } from './tiny-model.ts';

const PICTURES = join(import.meta.dirname, '../../configs/demo/images/nature');

/** A recipe with everything that it names, in a folder of its own. */
export interface TinyProject extends Disposable {
  readonly folder: string;
  readonly recipeFile: string;
  /** The recipe, with keys overridden as by `--set`. */
  recipe(...set: readonly string[]): Promise<ResolvedRecipe>;
}

/** Pictures of the project. */
export const TINY_PICTURES = 6;

/**
 * A student, two teachers that share its VAE and text encoder, and six of the demo's pictures with their captions, for
 * guidance distillation: seconds from here to a sealed cache.
 */
export async function makeTinyProject(engine: Engine): Promise<TinyProject> {
  const folder = mkdtempSync(join(tmpdir(), 'potstill-tiny-'));
  await writeTinyModel(engine, join(folder, 'base'), 1);
  await writeEchoUnet(engine, join(folder, 'first'), 2);
  await writeEchoUnet(engine, join(folder, 'second'), 3);
  copyPictures(join(folder, 'pictures'));
  const recipeFile = join(folder, 'recipe.json');
  writeFileSync(recipeFile, JSON.stringify(RECIPE, null, 2));
  return {
    folder,
    recipeFile,
    recipe: async (...set) => (await loadRecipe(recipeFile, { set })).recipe,
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}

const RECIPE = {
  version: 1,
  name: 'tiny',
  student: { model: 'base' },
  teachers: [
    { id: 'first', model: 'first' },
    { id: 'second', model: 'second' },
  ],
  data: [{ images: 'pictures', captions: 'jsonl' }],
  // At early timesteps an echo is not like the noise.
  cache: { dir: 'cache', draws: 12, timesteps: [200, 1000] },
  method: { id: 'cfg', guidance: 5 },
  training: { steps: 2, batch: 2 },
};

function copyPictures(folder: string): void {
  mkdirSync(folder);
  const lines = readFileSync(join(PICTURES, 'captions.jsonl'), 'utf8').split('\n').slice(0, TINY_PICTURES);
  writeFileSync(join(folder, 'captions.jsonl'), lines.join('\n'));
  for (const line of lines) {
    const { file } = JSON.parse(line) as { file: string };
    cpSync(join(PICTURES, file), join(folder, file));
  }
}
