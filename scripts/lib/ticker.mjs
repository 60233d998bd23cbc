/** How often a log gets a sign of life from a step that takes long. */
const LOG_INTERVAL_MS = 20_000;
const TTY_INTERVAL_MS = 250;
/** How long the weights are trusted against what was seen: the first steps wait for the network, the long ones compute. */
const TRUST_SECONDS = 120;

/** Seconds as people read them. */
export function clock(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}

/**
 * Reports on steps with known weights: the time left is what the steps still to do take on the machine that the weights
 * were measured on (2 cores), times how much slower or faster this one has been so far.
 */
export class Ticker {
  #steps;
  #stream;
  #startedAt = performance.now();
  #doneWeight = 0;
  #doneSeconds = 0;

  /**
   * @param {readonly { label: string, seconds: number }[]} steps
   * @param {NodeJS.WriteStream} stream
   */
  constructor(steps, stream = process.stderr) {
    this.#steps = steps;
    this.#stream = stream;
  }

  /** Runs one of the steps; `work` is given a function that shows a line of detail. */
  async run(index, work) {
    const { label, seconds } = this.#steps[index];
    const begun = performance.now();
    let detail = '';
    const line = () => {
      const spent = (performance.now() - begun) / 1000;
      const left = this.#left(index, spent);
      const text = `[${index + 1}/${this.#steps.length}] ${label}  ${clock(spent)}, about ${clock(left)} left`;
      return detail === '' ? text : `${text}  ${detail}`;
    };
    const tty = this.#stream.isTTY === true;
    const draw = () => {
      const text = line();
      this.#stream.write(tty ? `\r\x1b[2K${text.slice(0, (this.#stream.columns ?? 80) - 1)}` : `${text}\n`);
    };
    draw();
    const timer = setInterval(draw, tty ? TTY_INTERVAL_MS : LOG_INTERVAL_MS);
    try {
      await work((text) => {
        detail = text.trim();
      });
    } finally {
      clearInterval(timer);
      if (tty) this.#stream.write('\r\x1b[2K');
    }
    const spent = (performance.now() - begun) / 1000;
    this.#doneWeight += seconds;
    this.#doneSeconds += spent;
    this.#stream.write(`[${index + 1}/${this.#steps.length}] ${label}: done in ${clock(spent)}\n`);
  }

  /** Seconds since the first step began. */
  get elapsed() {
    return (performance.now() - this.#startedAt) / 1000;
  }

  #left(index, spent) {
    const pace = (this.#doneSeconds + TRUST_SECONDS) / (this.#doneWeight + TRUST_SECONDS);
    const rest = this.#steps.slice(index + 1).reduce((sum, { seconds }) => sum + seconds, 0);
    return pace * (Math.max(0, this.#steps[index].seconds - spent / pace) + rest);
  }
}
