import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/**
 * The other side of a benchmark: a program that first prints one line of JSON (what it computed, its versions) and then
 * answers each line `run` with the seconds of one iteration.
 */
export class Peer {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;
  #errors = '';

  constructor(command: string, words: readonly string[]) {
    this.#child = spawn(command, words);
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#errors += text;
    });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** What it said of itself before the first iteration. */
  async introduce(): Promise<Readonly<Record<string, unknown>>> {
    return JSON.parse(await this.#line());
  }

  /** Runs one iteration; returns its seconds. */
  async run(): Promise<number> {
    this.#child.stdin.write('run\n');
    return Number(await this.#line());
  }

  end(): void {
    this.#child.stdin.end();
  }

  async #line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error(`the peer ended: ${this.#errors}`);
    return value;
  }
}
