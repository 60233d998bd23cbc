import type { Command } from 'commander';
import { configureBuild } from './cache-build.ts';
import { configureExport } from './cache-export.ts';
import { configureGc } from './cache-gc.ts';
import { configureImport } from './cache-import.ts';
import { configureLs } from './cache-ls.ts';
import { configureSeal } from './cache-seal.ts';
import { configureStats } from './cache-stats.ts';
import { configureVerify } from './cache-verify.ts';
import type { Context } from './command.ts';

/** `potstill cache build|seal|verify|ls|stats|gc|export|import` */
export function configure(command: Command, context: Context): void {
  configureBuild(command.command('build'), context);
  configureSeal(command.command('seal'), context);
  configureVerify(command.command('verify'), context);
  configureLs(command.command('ls'), context);
  configureStats(command.command('stats'), context);
  configureGc(command.command('gc'), context);
  configureExport(command.command('export'), context);
  configureImport(command.command('import'), context);
}
