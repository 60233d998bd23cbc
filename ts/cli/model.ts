import type { Command } from 'commander';
import type { Context } from './command.ts';
import { configureConvert } from './model-convert.ts';
import { configureInspect } from './model-inspect.ts';
import { configurePull } from './model-pull.ts';
import { configurePush } from './model-push.ts';
import { configureQuantize } from './model-quantize.ts';

/** `potstill model inspect|convert|quantize|pull|push` */
export function configure(command: Command, context: Context): void {
  configureInspect(command.command('inspect').summary('what a checkpoint holds, every key accounted for'), context);
  configureConvert(command.command('convert').summary('single file to diffusers folder and back; dtype'), context);
  configureQuantize(command.command('quantize').summary('matrices in fewer bits: nf4, int8, fp8'), context);
  configurePull(command.command('pull').summary('bring a model from the Hugging Face Hub'), context);
  configurePush(command.command('push').summary('upload a model to the Hugging Face Hub'), context);
}
