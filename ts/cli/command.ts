import type { Command } from 'commander';
import type { Progress } from '../progress.ts';

/**
 * What a command gets from the command line around it. A command parses, calls, prints; it does not touch `process`.
 */
export interface Context {
  /** Was `--json` given? Then {@link Context.result} prints one document and nothing else goes to stdout. */
  readonly json: boolean;
  /** Writes to stderr, and only when the work takes longer than two seconds. */
  readonly progress: Progress;
  /** Aborted by Ctrl-C and SIGTERM, with an `interruptedError()` as its reason. Long work passes it down. */
  readonly signal: AbortSignal;
  /**
   * Calls back with each key that is pressed in the terminal, until what it returns is called; without a terminal never.
   */
  keys(onKey: (key: string) => void): () => void;
  /** Prints the command's result to stdout: the document with `--json`, else the text. Called once. */
  result(document: unknown, text: () => string): void;
  /** Ends the command with exit code 1 after its result was printed: a check failed (verification, estimate). */
  failCheck(): void;
  /** Ends the command with exit code 3 after its result was printed: this machine cannot do it. */
  failMachine(): void;
}

/**
 * One file of `ts/cli/` holds one command and exports `configure`, which declares arguments and options and sets the
 * action. `--json` is added by the command line itself, to every command. Imports of heavy rooms stand inside the
 * action (`await import(…)`), so that `--help` stays fast. `recipe.ts` is a short example.
 */
export interface CommandModule {
  configure(command: Command, context: Context): void;
}
