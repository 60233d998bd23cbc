import type { Command } from 'commander';
import type { CacheStatistics } from '../cache/index.ts';
import { inputError } from '../errors.ts';
import type { Context } from './command.ts';
import { formatBytes } from './format.ts';

/** `potstill cache stats PATH` */
export function configureStats(command: Command, context: Context): void {
  command
    .argument('<path>', "a cache's folder")
    .description(
      'Says how many bytes a training sample takes, here and in the layout with a file for every prediction.',
    )
    .action(async (path: string) => {
      const { cacheStatistics, summariseCache } = await import('../cache/index.ts');
      const statistics = cacheStatistics(await summariseCache(path));
      if (statistics === undefined) {
        throw inputError('ERR_CACHE_INCOMPLETE', 'has no samples to count: latents, text or every teacher is missing', {
          where: path,
          remedy: 'Build the rest with `potstill cache build`; `potstill cache ls` lists what is there.',
        });
      }
      context.result(statistics, () => format(path, statistics));
    });
}

function format(
  path: string,
  { samples, teachers, bytesPerSample, files, ratio, components }: CacheStatistics,
): string {
  const widest = Math.max(...components.map(({ component }) => component.length));
  const lines = components.map(
    ({ component, bytesPerSample: each }) => `  ${component.padEnd(widest)}  ${formatBytes(each)} a sample`,
  );
  return [
    `${path}: ${samples} samples (view, caption, draw), ${teachers} teachers, ${formatBytes(bytesPerSample)} a sample`,
    ...lines,
    `  as ${files.count} files of the files layout: ${formatBytes(files.bytesPerSample)} a sample, ${ratio.toFixed(1)} times as much`,
  ].join('\n');
}
