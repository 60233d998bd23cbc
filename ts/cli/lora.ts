import type { Command } from 'commander';
import type { Context } from './command.ts';
import { configureBackMerge } from './lora-back-merge.ts';
import { configureConvert } from './lora-convert.ts';
import { configureExtract } from './lora-extract.ts';
import { configureInspect } from './lora-inspect.ts';
import { configureMerge } from './lora-merge.ts';
import { configureResize } from './lora-resize.ts';
import { configureScale } from './lora-scale.ts';

/** `potstill lora inspect|convert|scale|merge|resize|extract|back-merge` */
export function configure(command: Command, context: Context): void {
  configureInspect(command.command('inspect').summary('ranks, norms and scale; what it was trained on'), context);
  configureConvert(command.command('convert').summary('kohya, ComfyUI, peft, diffusers; dtype'), context);
  configureScale(command.command('scale').summary('make it stronger or weaker, once'), context);
  configureMerge(command.command('merge').summary('several into one, exactly'), context);
  configureResize(command.command('resize').summary('fewer ranks, with the least loss'), context);
  configureExtract(command.command('extract').summary('the LoRA that leads from one model to another'), context);
  configureBackMerge(command.command('back-merge').summary('what several do to their model, in few ranks'), context);
}
