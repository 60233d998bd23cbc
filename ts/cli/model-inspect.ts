import type { Command } from 'commander';
import { formatCheckpoint } from './checkpoint-report.ts';
import type { Context } from './command.ts';

/** `potstill model inspect PATH` */
export function configureInspect(command: Command, context: Context): void {
  command
    .argument('<path>', 'a single file, a diffusers folder, or one component of it')
    .description(
      'Recognises a checkpoint by its keys and shapes and accounts for every key: matched, converted, unused, missing,\n' +
        'unexpected. Reads headers only. Exits with 1 when a key is missing, unexpected or of another shape.',
    )
    .option('--digests', 'also read the files whole, for their SHA-256')
    .action(async (path: string, { digests }: { readonly digests?: boolean }) => {
      const { inspectModel } = await import('../model/inspect.ts');
      const { progress, signal } = context;
      const report = await inspectModel(path, { digests, progress, signal });
      context.result(report, () => formatCheckpoint(report));
      if (!report.sound) context.failCheck();
    });
}
