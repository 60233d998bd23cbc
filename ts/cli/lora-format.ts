import { type Command, Option } from 'commander';
import { type AdapterFormat, DIALECTS } from '../adapter/index.ts';

/** What every command that writes an adapter takes. */
export interface LoraOutput extends AdapterFormat {
  readonly out: string;
}

/** Declares {@link LoraOutput}. */
export function addOutputOptions(command: Command): Command {
  return command
    .requiredOption('--out <path>', 'where to write; nothing may be there yet')
    .addOption(new Option('--dialect <name>', "default: the source's").choices(DIALECTS))
    .addOption(new Option('--dtype <name>', "default: the source's").choices(['f32', 'f16', 'bf16']))
    .option('--title <text>', "the title in the file's metadata")
    .option('--model <path>', 'the model that it is for, where that has other widths than the published ones');
}
