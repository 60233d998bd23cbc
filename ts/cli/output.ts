import type { Progress } from '../progress.ts';
import type { Context } from './command.ts';
import { exitCodeOf } from './failure.ts';
import { isInForeground } from './foreground.ts';
import { listenToKeys } from './keys.ts';

/** The context of one command line, and what it has come to. */
export class Output implements Context {
  readonly json: boolean;
  readonly progress: Progress;
  readonly signal: AbortSignal;
  readonly #stdout: { write(text: string): unknown };
  #exitCode = 0;

  constructor(stdout: { write(text: string): unknown }, json: boolean, progress: Progress, signal: AbortSignal) {
    this.#stdout = stdout;
    this.json = json;
    this.progress = progress;
    this.signal = signal;
  }

  get exitCode(): number {
    return this.#exitCode;
  }

  keys(onKey: (key: string) => void): () => void {
    return listenToKeys(process.stdin, onKey, {
      raise: (signal) => process.kill(process.pid, signal),
      isInForeground,
      onContinued: (listener) => {
        process.on('SIGCONT', listener);
        return () => process.off('SIGCONT', listener);
      },
    });
  }

  result(document: unknown, text: () => string): void {
    const written = this.json ? JSON.stringify(document, null, 2) : text();
    this.#stdout.write(written.endsWith('\n') ? written : `${written}\n`);
  }

  failCheck(): void {
    this.#exitCode = exitCodeOf('check');
  }

  failMachine(): void {
    this.#exitCode = exitCodeOf('machine');
  }
}
