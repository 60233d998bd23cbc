import type { WriteStream } from 'node:tty';
import { Command, CommanderError } from 'commander';
import { inputError, type PotstillError, toPotstillError } from '../errors.ts';
import { packageVersion } from '../version.ts';
import { exitCodeOf, formatError } from './failure.ts';
import { catchInterrupts } from './interrupts.ts';
import { missingCommand } from './missing.ts';
import { Output } from './output.ts';
import { TerminalProgress } from './progress.ts';
import { COMMANDS, NOT_BUILT } from './registry.ts';

/** The parts of a stream that the command line writes to; `process.stdout` and `process.stderr` have them. */
export type TextStream = Pick<WriteStream, 'write'> & { readonly isTTY?: boolean; readonly columns?: number };

/**
 * Runs one command line and returns its exit code: 0 ok, 1 a check failed, 2 unusable input, 3 this machine,
 * 130 interrupted.
 *
 * @param words the arguments after `potstill`
 */
export async function run(words: readonly string[], stdout: TextStream, stderr: TextStream): Promise<number> {
  const progress = new TerminalProgress(stderr);
  const interrupts = catchInterrupts();
  let program: Command | undefined;
  const output = new Output(stdout, words.includes('--json'), progress, interrupts.signal);
  try {
    const missing = missingCommand(words, COMMANDS, NOT_BUILT);
    if (missing !== undefined) throw missing;
    program = await assemble(words, output, stdout, stderr);
    await program.parseAsync(words, { from: 'user' });
    return output.exitCode;
  } catch (thrown) {
    if (thrown instanceof CommanderError && thrown.exitCode === 0) return 0; // --help, --version
    // What failed because of Ctrl-C is an interruption, whatever it was thrown as.
    const error = interrupts.signal.aborted
      ? toPotstillError(interrupts.signal.reason)
      : asError(thrown, commandOf(words, program));
    progress.close();
    if (output.json) stdout.write(`${JSON.stringify({ error }, null, 2)}\n`);
    stderr.write(formatError(error, stderr));
    return exitCodeOf(error.kind);
  } finally {
    progress.close();
    interrupts.release();
  }
}

/** The program with every command's name; those named in `words` are loaded with their arguments and options. */
async function assemble(
  words: readonly string[],
  output: Output,
  stdout: TextStream,
  stderr: TextStream,
): Promise<Command> {
  const program = new Command('potstill')
    .description('Distil Stable Diffusion models on your own machine.')
    .version(packageVersion())
    .exitOverride()
    .configureOutput({
      writeOut: (text) => stdout.write(text),
      writeErr: (text) => stderr.write(text),
      outputError: () => {}, // usage errors are printed like every other error
    })
    .addHelpText('after', '\nResults go to stdout (--json: one document), progress to stderr.');
  for (const { name, summary, load } of COMMANDS) {
    const command = program
      .command(name)
      .summary(summary)
      .description(`${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`);
    if (!words.includes(name)) continue;
    (await load()).configure(command, output);
    offerJson(command);
  }
  return program;
}

function offerJson(command: Command): void {
  if (command.commands.length === 0) command.option('--json', 'print one JSON document');
  for (const subcommand of command.commands) offerJson(subcommand);
}

function asError(thrown: unknown, command: readonly string[]): PotstillError {
  if (!(thrown instanceof CommanderError)) return toPotstillError(thrown);
  if (thrown.code === 'commander.help') {
    return inputError('ERR_USAGE', 'a command is missing', { remedy: 'Choose one of the commands above.' });
  }
  const [what = '', ...suggestion] = thrown.message.replace(/^error: /, '').split('\n');
  return inputError('ERR_USAGE', what, {
    remedy:
      suggestion.length > 0
        ? suggestion.join(' ').replace(/^\(|\)$/g, '')
        : `See \`potstill ${[...command, '--help'].join(' ')}\`.`,
  });
}

/** The command of a command line, without its arguments: `['probe', 'noise']`. */
function commandOf(words: readonly string[], program: Command | undefined): readonly string[] {
  const names: string[] = [];
  let group = program;
  for (const word of words) {
    group = group?.commands.find((command) => command.name() === word);
    if (group === undefined) break;
    names.push(word);
  }
  return names;
}
