import type { Progress, ProgressTask, TaskOptions } from '../progress.ts';
import { formatBytes, formatRate, formatSeconds } from './format.ts';
import { paint } from './style.ts';

/** Work shorter than this reports nothing. */
const PATIENCE_MS = 2_000;
/** How often a terminal's line is drawn again. */
const TTY_INTERVAL_MS = 120;
/** How often a log gets a line: rarely enough that a CI log of an hour stays readable. */
const LOG_INTERVAL_MS = 10_000;
/** The rate is that of the last so many milliseconds, so that the time left follows a change of pace. */
const RATE_WINDOW_MS = 20_000;
const BAR_WIDTH = 24;

interface Stream {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

/** Progress on stderr: one line redrawn on a terminal, plain lines in a log; rate and time left in both. */
export class TerminalProgress implements Progress {
  readonly #stream: Stream;
  readonly #now: () => number;
  readonly #tasks: Task[] = [];
  #timer: NodeJS.Timeout | undefined;
  #drawn = false;
  #lastLine = Number.NEGATIVE_INFINITY;

  /** @param now milliseconds of a clock that never goes back */
  constructor(stream: Stream, now: () => number = () => performance.now()) {
    this.#stream = stream;
    this.#now = now;
  }

  start(label: string, options: TaskOptions = {}): ProgressTask {
    const task = new Task(label, options, this.#now, () => this.#finish(task));
    this.#tasks.push(task);
    this.#timer ??= setInterval(() => this.tick(), TTY_INTERVAL_MS).unref();
    return task;
  }

  log(line: string): void {
    this.#clear();
    this.#stream.write(`${line}\n`);
  }

  /** Draws the innermost task that has lasted long enough to be shown. Called by a timer. */
  tick(): void {
    const now = this.#now();
    const task = this.#tasks.findLast(({ startedAt }) => now - startedAt >= PATIENCE_MS);
    if (task === undefined) return;
    task.shown = true;
    if (this.#stream.isTTY === true) {
      const line = task.line(true).slice(0, Math.max(20, (this.#stream.columns ?? 80) - 1));
      this.#stream.write(`\r\x1b[2K${line}`);
      this.#drawn = true;
    } else if (now - this.#lastLine >= LOG_INTERVAL_MS) {
      this.#lastLine = now;
      this.#stream.write(`${task.line(false)}\n`);
    }
  }

  /** Ends what is still running and leaves the terminal's line empty. */
  close(): void {
    this.#tasks.length = 0;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#clear();
  }

  #finish(task: Task): void {
    const index = this.#tasks.indexOf(task);
    if (index < 0) return;
    this.#tasks.splice(index, 1);
    if (task.shown) {
      this.#clear();
      this.#stream.write(`${paint('green', task.summary(), this.#stream)}\n`);
    }
    if (this.#tasks.length === 0) this.close();
  }

  #clear(): void {
    if (this.#drawn) this.#stream.write('\r\x1b[2K');
    this.#drawn = false;
  }
}

class Task implements ProgressTask {
  readonly startedAt: number;
  /** Has a line about it been written? Then its end is written too. */
  shown = false;
  readonly #label: string;
  readonly #options: TaskOptions;
  readonly #now: () => number;
  readonly #onEnd: () => void;
  readonly #marks: { at: number; done: number }[];
  #done = 0;
  #note = '';

  constructor(label: string, options: TaskOptions, now: () => number, onEnd: () => void) {
    this.#label = label;
    this.#options = options;
    this.#now = now;
    this.#onEnd = onEnd;
    this.startedAt = now();
    this.#marks = [{ at: this.startedAt, done: 0 }];
  }

  advance(amount = 1): void {
    this.set(this.#done + amount);
  }

  set(done: number): void {
    this.#done = done;
    const at = this.#now();
    this.#marks.push({ at, done });
    while (this.#marks.length > 2 && at - (this.#marks[1]?.at ?? at) > RATE_WINDOW_MS) this.#marks.shift();
  }

  note(text: string): void {
    this.#note = text;
  }

  end(): void {
    this.#onEnd();
  }

  [Symbol.dispose](): void {
    this.end();
  }

  /** How far it is, how fast, how long still. */
  line(withBar: boolean): string {
    const { total } = this.#options;
    const elapsed = (this.#now() - this.startedAt) / 1000;
    const rate = this.#rate();
    const parts = [this.#label];
    if (total !== undefined && total > 0) {
      const share = Math.min(1, this.#done / total);
      const filled = Math.round(share * BAR_WIDTH);
      parts.push(withBar ? `[${'#'.repeat(filled)}${'.'.repeat(BAR_WIDTH - filled)}]` : `${Math.floor(share * 100)}%`);
    }
    if (this.#done > 0 || total !== undefined) parts.push(this.#count());
    if (rate > 0) parts.push(this.#perSecond(rate));
    parts.push(formatSeconds(elapsed));
    if (total !== undefined && rate > 0 && this.#done < total) {
      parts.push(`${formatSeconds((total - this.#done) / rate)} left`);
    }
    if (this.#note !== '') parts.push(this.#note);
    return parts.join('  ');
  }

  /** What it came to, once it is over. */
  summary(): string {
    const seconds = (this.#now() - this.startedAt) / 1000;
    const done = this.#done > 0 ? `${this.#amount(this.#done)}${this.#unit()} in ` : '';
    const rate = this.#done > 0 && seconds > 0 ? ` (${this.#perSecond(this.#done / seconds)})` : '';
    return `${this.#label}: ${done}${formatSeconds(seconds)}${rate}`;
  }

  #rate(): number {
    const first = this.#marks[0];
    const last = this.#marks.at(-1);
    if (first === undefined || last === undefined || last.at <= first.at) return 0;
    return ((last.done - first.done) / (last.at - first.at)) * 1000;
  }

  #count(): string {
    const { total } = this.#options;
    const of = total === undefined ? '' : `/${this.#amount(total)}`;
    return `${this.#amount(this.#done)}${of}${this.#unit()}`;
  }

  #amount(value: number): string {
    return this.#options.unit === 'bytes' ? formatBytes(value) : String(Math.round(value));
  }

  #unit(): string {
    const { unit } = this.#options;
    return unit === undefined || unit === 'bytes' ? '' : ` ${unit}`;
  }

  #perSecond(rate: number): string {
    if (this.#options.unit === 'bytes') return `${formatBytes(rate)}/s`;
    return rate < 0.1 ? `${formatSeconds(1 / rate)} each` : `${formatRate(rate)}/s`;
  }
}
