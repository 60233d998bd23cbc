import type { Command } from 'commander';
import { configureBuild } from './cache-build.ts';
import { configureExport } from './cache-export.ts';
import { configureImport } from './cache-import.ts';
import { configureLs } from './cache-ls.ts';
import { configureStats } from './cache-stats.ts';
import { configureVerify } from './cache-verify.ts';
import type { Context } from './command.ts';

/** `potstill cache build|verify|ls|stats|export|import` */
export function configure(command: Command, context: Context): void {
  configureBuild(command.command('build'), context);
  configureVerify(command.command('verify'), context);
  configureLs(command.command('ls'), context);
  configureStats(command.command('stats'), context);
  configureExport(command.command('export'), context);
  configureImport(command.command('import'), context);
}
