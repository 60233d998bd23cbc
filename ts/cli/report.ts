import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { Command } from 'commander';
import type { Context } from './command.ts';
import { requireOutFile, requireOutFolder } from './paths.ts';

/** `potstill report RUN`: a self-contained HTML page of a run's folder. */
export function configure(command: Command, context: Context): void {
  command
    .argument('<run>', "a run's folder: the output of train or demo")
    .option('--out <file>', 'where to write the page (default: report.html in the run)')
    .action(async (run: string, options: { out?: string }) => {
      if (options.out !== undefined) {
        await requireOutFolder(dirname(resolve(options.out)));
        if (existsSync(dirname(resolve(options.out)))) await requireOutFile(options.out);
      }
      const { writeReport } = await import('../report/index.ts');
      const page = await writeReport(run, options.out);
      context.result({ page }, () => page);
    });
}
