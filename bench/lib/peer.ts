import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** What a side says of an iteration. */
export interface Iteration {
  readonly seconds: number;
  /** The most memory that its process has had so far. */
  readonly peakBytes: number;
}

/** How to start a side of a benchmark. */
export interface Program {
  readonly command: string;
  readonly words: readonly string[];
  /** Variables that it is started with beside those of this process. */
  readonly environment?: Readonly<Record<string, string>>;
}

/**
 * One side of a benchmark: a program that first prints one line of JSON (what it computed, its versions) and then answers
 * each line `run` with an {@link Iteration}. It ends when its input does.
 */
export class Peer {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;
  readonly #closed: Promise<unknown>;
  #errors = '';

  constructor({ command, words, environment }: Program) {
    this.#child = spawn(command, words, { env: { ...process.env, ...environment } });
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#errors += text;
    });
    this.#closed = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.on('error', (error) => {
      this.#errors += error.message;
    });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** Its process, while it runs. */
  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** What it said of itself before the first iteration. */
  async introduce(): Promise<Readonly<Record<string, unknown>>> {
    return JSON.parse(await this.#line());
  }

  /** Runs one iteration. */
  async run(): Promise<Iteration> {
    this.#child.stdin.write('run\n');
    return JSON.parse(await this.#line());
  }

  /** Ends the program, and waits until its memory is free. */
  async end(): Promise<void> {
    this.#child.stdin.end();
    await this.#closed;
  }

  async #line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error(`a side of the benchmark ended: ${this.#errors}`);
    return value;
  }
}
