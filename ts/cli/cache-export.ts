import { type Command, Option } from 'commander';
import type { ExportedCache } from '../cache/index.ts';
import type { Context } from './command.ts';
import { requireOutFolder } from './paths.ts';

interface ExportOptions {
  readonly out: string;
  readonly images?: string;
}

/** `potstill cache export PATH --layout files --out DIR` */
export function configureExport(command: Command, context: Context): void {
  command
    .argument('<path>', "a cache's folder, or s3://bucket/path")
    .description(
      'Writes what the teachers of a cache predicted as one file for every image, draw and teacher, with its noise and text:\n' +
        'OUT/<teacher>/{sha1}_{W}x{H}.safetensors. Says what that layout has no place for.',
    )
    .addOption(new Option('--layout <name>', 'the layout to write').choices(['files']).makeOptionMandatory())
    .requiredOption('--out <folder>', 'where to write; the teachers must not have folders there yet')
    .option('--images <folder>', 'the images: files are named after their paths in it, else after their digests')
    .action(async (path: string, { out, images }: ExportOptions) => {
      const { exportCache } = await import('../cache/index.ts');
      await requireOutFolder(out);
      const { progress, signal } = context;
      const exported = await exportCache(path, out, { images, progress, signal });
      context.result({ ok: true, out, ...exported }, () => format(out, exported));
    });
}

function format(out: string, exported: ExportedCache): string {
  const { teachers, files, latents, otherPredictions } = exported;
  const left: readonly [count: number, what: string][] = [
    [exported.unnamedImages, 'images are called by their digests: name their folder with --images'],
    [exported.flippedSamples, 'samples of mirrored views: a reader knows an image by its name alone'],
    [exported.repeatedSamples, 'samples of an image and size that has a sample already: with another caption or crop'],
    [exported.uncondPredictions, 'unconditional predictions: a file holds one prediction'],
    [latents, 'latents: readers encode the images themselves'],
    [
      exported.otherTimeIds,
      'samples of SDXL predicted with another size conditioning (time_ids) than readers give, [W, H, 0, 0, W, H]: do not mix the two',
    ],
  ];
  return [
    `${out}: ${files} files of ${teachers.length} ${teachers.length === 1 ? 'teacher' : 'teachers'} (${teachers.join(', ')})`,
    ...left.filter(([count]) => count > 0).map(([count, what]) => `  not as it was: ${count} ${what}`),
    ...otherPredictions.map(
      (id) => `  not told but in the metadata: ${id} does not predict the noise, which readers take a prediction for`,
    ),
  ].join('\n');
}
