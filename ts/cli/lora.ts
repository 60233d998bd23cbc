import type { Command } from 'commander';
import type { Context } from './command.ts';
import { configureConvert } from './lora-convert.ts';
import { configureInspect } from './lora-inspect.ts';
import { configureMerge } from './lora-merge.ts';
import { configureResize } from './lora-resize.ts';
import { configureScale } from './lora-scale.ts';

/** `potstill lora inspect|convert|scale|merge|resize` */
export function configure(command: Command, context: Context): void {
  configureInspect(command.command('inspect').summary('ranks, norms and scale; what it was trained on'), context);
  configureConvert(command.command('convert').summary('kohya, ComfyUI, peft, diffusers; dtype'), context);
  configureScale(command.command('scale').summary('make it stronger or weaker, once'), context);
  configureMerge(command.command('merge').summary('several into one, exactly'), context);
  configureResize(command.command('resize').summary('fewer ranks, with the least loss'), context);
}
