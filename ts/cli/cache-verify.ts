import { type Command, Option } from 'commander';
import type { Context } from './command.ts';
import { notBuilt } from './not-built.ts';
import { formatReport } from './verification.ts';

interface VerifyOptions {
  readonly backend: 'auto' | 'native' | 'wasm';
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
    .addOption(new Option('--recompute <n>').hideHelp())
    .addOption(new Option('--model <folder>').hideHelp())
    .addOption(new Option('--serve').hideHelp())
    .action(async (path: string, { backend, recompute, model, serve }: VerifyOptions) => {
      if (recompute !== undefined) throw notBuilt('--recompute');
      if (model !== undefined) throw notBuilt('--model');
      if (serve === true) throw notBuilt('--serve');
      const { verifyCache } = await import('../cache/index.ts');
      const { report } = await verifyCache(path, { backend, progress: context.progress, signal: context.signal });
      context.result(report, () => formatReport(path, report));
      if (report.verdict !== 'ok') context.failCheck();
    });
}
