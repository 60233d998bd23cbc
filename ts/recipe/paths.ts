import { dirname, resolve } from 'node:path';
import type { Recipe } from './schema.ts';
import { withLoraFiles } from './student.ts';

type Step = string | number;

/** The recipe with absolute paths. `baseOf` names the folder that the path given at this place is relative to. */
export function resolvePaths(recipe: Recipe, baseOf: (path: readonly Step[]) => string): Recipe & { output: string } {
  const absolute = (value: string, ...path: Step[]): string => resolve(baseOf(path), value);
  return {
    ...recipe,
    output: absolute(recipe.output ?? `runs/${folderName(recipe.name)}`, 'output'),
    student: {
      ...recipe.student,
      model: absolute(recipe.student.model, 'student', 'model'),
      ...(recipe.student.encoders === undefined
        ? {}
        : { encoders: absolute(recipe.student.encoders, 'student', 'encoders') }),
      ...(recipe.student.vae === undefined ? {} : { vae: absolute(recipe.student.vae, 'student', 'vae') }),
      train: withLoraFiles(recipe.student.train, (file, name) =>
        name === undefined
          ? absolute(file, 'student', 'train', 'lora')
          : absolute(file, 'student', 'train', 'loras', name),
      ),
    },
    teachers: recipe.teachers.map((teacher, index) => ({
      ...teacher,
      model: absolute(teacher.model, 'teachers', index, 'model'),
      lora: teacher.lora.map((adapter, position) => ({
        ...adapter,
        file: absolute(adapter.file, 'teachers', index, 'lora', position, 'file'),
      })),
    })),
    data: recipe.data.map((set, index) => ({
      ...set,
      images: absolute(set.images, 'data', index, 'images'),
      ...(set.masks === undefined ? {} : { masks: absolute(set.masks, 'data', index, 'masks') }),
    })),
    cache: {
      ...recipe.cache,
      dir: isS3(recipe.cache.dir) ? recipe.cache.dir : absolute(recipe.cache.dir, 'cache', 'dir'),
    },
  };
}

/** `s3://bucket/prefix` is the same from everywhere. */
function isS3(place: string): boolean {
  return place.startsWith('s3://');
}

/** Folder that a recipe's relative paths start at. */
export function recipeFolder(file: string): string {
  return dirname(resolve(file));
}

/** A name as a folder: whatever is special to a shell or a file system becomes a dash. */
function folderName(name: string): string {
  const plain = name.replace(/[^\p{L}\p{N}._-]+/gu, '-').replace(/^[.-]+/, '');
  return plain === '' ? 'run' : plain;
}
