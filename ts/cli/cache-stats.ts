import type { Command } from 'commander';
import type { CacheStatistics, FilesSummary } from '../cache/index.ts';
import { inputError } from '../errors.ts';
import type { Context } from './command.ts';
import { formatBytes } from './format.ts';

/** `potstill cache stats PATH` */
export function configureStats(command: Command, context: Context): void {
  command
    .argument('<path>', "a cache's folder, or s3://bucket/path")
    .description(
      'Says how many bytes a training sample takes, here and in the layout with a file for every prediction.',
    )
    .action(async (path: string) => {
      const { cacheStatistics, surveyCache } = await import('../cache/index.ts');
      const survey = await surveyCache(path);
      if (survey.layout === 'files') {
        const statistics = filesStatistics(survey.folders);
        context.result({ layout: survey.layout, ...statistics }, () => formatFiles(path, statistics));
        return;
      }
      const statistics = cacheStatistics(survey.components);
      if (statistics === undefined) {
        throw inputError('ERR_CACHE_INCOMPLETE', 'has no samples to count: latents, text or every teacher is missing', {
          where: path,
          remedy: 'Build the rest with `potstill cache build`; `potstill cache ls` lists what is there.',
        });
      }
      context.result(statistics, () => format(path, statistics));
    });
}

interface FilesStatistics {
  readonly samples: number;
  readonly teachers: number;
  readonly bytes: number;
  readonly bytesPerSample: number;
}

/** Every teacher has a file for every sample. */
function filesStatistics(folders: readonly FilesSummary[]): FilesStatistics {
  const samples = Math.max(...folders.map(({ files }) => files));
  const bytes = folders.reduce((sum, folder) => sum + folder.bytes, 0);
  return { samples, teachers: folders.length, bytes, bytesPerSample: bytes / samples };
}

function formatFiles(path: string, { samples, teachers, bytesPerSample }: FilesStatistics): string {
  return `${path}: ${samples} samples as files of ${teachers} teachers, ${formatBytes(bytesPerSample)} a sample`;
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
