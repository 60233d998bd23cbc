import { type Command, Option } from 'commander';
import type { Context } from './command.ts';
import { notBuilt } from './not-built.ts';
import { parseInteger } from './parse.ts';
import { formatReport } from './verification.ts';

interface VerifyOptions {
  readonly backend: 'auto' | 'native' | 'wasm';
  readonly images?: string;
  readonly baseSeed?: number;
  readonly nameVersion?: string;
  readonly recompute?: string;
  readonly model?: string;
  readonly serve?: boolean;
}

/** `potstill cache verify PATH` */
export function configureVerify(command: Command, context: Context): void {
  command
    .argument('<path>', "a cache's folder")
    .description(
      'Checks that a cache is what its plans and seals say; reads nothing but the cache. Exits with 1 if not.',
    )
    .addOption(
      new Option('--backend <name>', 'what verifies; the report is the same to the byte')
        .choices(['auto', 'native', 'wasm'])
        .default('auto'),
    )
    .option('--images <folder>', 'files layout: the images, so that seeds are made anew and missing files found')
    .option('--base-seed <seed>', 'files layout: what the seeds were made with; 42 when left out', parseInteger)
    .option('--name-version <text>', "files layout: version in the files' names; 1 when left out")
    .addOption(new Option('--recompute <n>').hideHelp())
    .addOption(new Option('--model <folder>').hideHelp())
    .addOption(new Option('--serve').hideHelp())
    .action(
      async (
        path: string,
        { backend, recompute, model, serve, images: folder, baseSeed, nameVersion: version }: VerifyOptions,
      ) => {
        if (recompute !== undefined) throw notBuilt('--recompute');
        if (model !== undefined) throw notBuilt('--model');
        if (serve === true) throw notBuilt('--serve');
        const { verifyCache } = await import('../cache/index.ts');
        const images = folder === undefined ? undefined : { folder, baseSeed, version };
        const { progress, signal } = context;
        const { report } = await verifyCache(path, { backend, images, progress, signal });
        context.result(report, () => formatReport(path, report));
        if (report.verdict !== 'ok') context.failCheck();
      },
    );
}
