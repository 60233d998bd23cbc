import type { Command } from 'commander';
import type { ImportedCache } from '../cache/index.ts';
import type { DeviceName } from '../device.ts';
import type { Context } from './command.ts';
import { recipeDeviceOption, withDevice } from './device.ts';
import { setOption } from './set-option.ts';

interface ImportOptions {
  readonly device?: DeviceName;
  readonly set: readonly string[];
  readonly nameVersion: string;
}

/** `potstill cache import FILES RECIPE` */
export function configureImport(command: Command, context: Context): void {
  command
    .argument('<files>', "a cache in the files layout: a folder of files for each of the recipe's teachers")
    .argument('<recipe>', 'the recipe whose cache they come into')
    .description(
      'Brings predictions that have a file each into the cache of a recipe, with their noise, seeds and timesteps. Images and\n' +
        'captions are encoded again. To train on them, set cache.noise to "stored" in the recipe.',
    )
    .addOption(recipeDeviceOption())
    .addOption(setOption())
    .option('--name-version <text>', "version in the files' names", '1')
    .action(async (files: string, file: string, { device, set, nameVersion }: ImportOptions) => {
      const [{ loadRecipe }, { importCache }] = await Promise.all([
        import('../recipe/index.ts'),
        import('../cache/index.ts'),
      ]);
      const { recipe } = await loadRecipe(file, { set: withDevice(set, device) });
      const { progress, signal } = context;
      const imported = await importCache(files, recipe, { version: nameVersion, progress, signal });
      context.result({ ok: true, ...imported }, () => format(imported, recipe.cache.noise === 'stored'));
    });
}

function format({ dir, teachers }: ImportedCache, isReady: boolean): string {
  const lines = teachers.flatMap(({ id, records, otherTexts = 0, unusedFiles }) => [
    `  teachers/${id}: ${records} records`,
    ...(otherTexts > 0
      ? [`    ${otherTexts} of them were made with other text than the recipe's encoders make of the captions`]
      : []),
    ...(unusedFiles > 0 ? [`    ${unusedFiles} files belong to no image of the recipe`] : []),
  ]);
  const next = isReady ? [] : ['  to train on them, set cache.noise to "stored" in the recipe'];
  return [`${dir}: imported`, ...lines, ...next].join('\n');
}
