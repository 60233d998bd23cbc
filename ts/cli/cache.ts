import type { Command } from 'commander';
import { configureBuild } from './cache-build.ts';
import { configureVerify } from './cache-verify.ts';
import type { Context } from './command.ts';

/** `potstill cache build|verify` */
export function configure(command: Command, context: Context): void {
  configureBuild(command.command('build'), context);
  configureVerify(command.command('verify'), context);
}
