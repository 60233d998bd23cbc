/** The rate is that of the last so many milliseconds, so that the time left follows a change of pace. */
const WINDOW_MS = 10_000;

/** How fast something goes, from what was done when. */
export class Pace {
  readonly #now: () => number;
  readonly #marks: { readonly at: number; readonly done: number }[];
  #total = 0;

  /** @param now milliseconds of a clock that never goes back */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#marks = [{ at: now(), done: 0 }];
  }

  set(done: number, total: number): void {
    const at = this.#now();
    this.#total = total;
    this.#marks.push({ at, done });
    while (this.#marks.length > 2 && at - (this.#marks[1]?.at ?? at) > WINDOW_MS) this.#marks.shift();
  }

  /** Per second; 0 when nobody knows yet. */
  get rate(): number {
    const [first, last] = [this.#marks[0], this.#marks.at(-1)];
    if (first === undefined || last === undefined || last.at <= first.at) return 0;
    return ((last.done - first.done) / (last.at - first.at)) * 1000;
  }

  /** Seconds left; undefined when nobody knows. */
  get left(): number | undefined {
    const { rate } = this;
    return rate > 0 ? (this.#total - (this.#marks.at(-1)?.done ?? 0)) / rate : undefined;
  }
}
