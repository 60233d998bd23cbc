import { type Iteration, Peer, type Program } from './peer.ts';
import { compareTimes, type Ratio, type Summary, summarise } from './statistics.ts';

/** What a program is measured for: potstill's and, where there is one, another's. */
export interface Sides {
  readonly ours: Program;
  readonly theirs?: Program | undefined;
}

/** How often, and how. */
export interface Plan {
  /** Turns: iterations of each side in each. */
  readonly turns: number;
  readonly iterations: number;
  /** Iterations of a fresh process that do not count. */
  readonly warmUp: number;
  /** Fresh processes for every turn, one at a time: for work that does not fit the memory twice. */
  readonly apart: boolean;
}

/** One side's times. */
export interface Times extends Summary {
  readonly seconds: readonly number[];
  readonly peakBytes: number;
}

/** Times of both sides, and how they compare. */
export interface Comparison extends Partial<Ratio> {
  readonly ours: Times;
  readonly theirs?: Times;
  /** What each side said of itself. */
  readonly introductions: readonly Introduction[];
}

/** What a side says before it is timed. */
export type Introduction = Readonly<Record<string, unknown>>;

/** A side, with a process that is started when it is needed. */
class Runner {
  readonly #program: Program;
  readonly #plan: Plan;
  #peer: Peer | undefined;
  readonly iterations: Iteration[] = [];

  constructor(program: Program, plan: Plan) {
    this.#program = program;
    this.#plan = plan;
  }

  /** Starts the process where there is none. */
  async start(): Promise<Introduction | undefined> {
    if (this.#peer !== undefined) return undefined;
    this.#peer = new Peer(this.#program);
    const introduction = await this.#peer.introduce();
    for (let i = 0; i < this.#plan.warmUp; i += 1) await this.#peer.run();
    return introduction;
  }

  async turn(): Promise<void> {
    await this.start();
    for (let i = 0; i < this.#plan.iterations; i += 1) {
      if (this.#peer !== undefined) this.iterations.push(await this.#peer.run());
    }
    if (this.#plan.apart) await this.end();
  }

  async end(): Promise<void> {
    await this.#peer?.end();
    this.#peer = undefined;
  }

  get times(): Times {
    const seconds = this.iterations.map((iteration) => iteration.seconds);
    return { ...summarise(seconds), seconds, peakBytes: Math.max(...this.iterations.map((i) => i.peakBytes)) };
  }
}

/**
 * Times the sides in turns, each in processes of its own, so that whatever else the machine does meets both alike.
 *
 * @param agree compares what the sides computed, before anything is timed; throws when they differ
 */
export async function compare(
  { ours, theirs }: Sides,
  plan: Plan,
  agree: (ours: Introduction, theirs: Introduction) => void,
): Promise<Comparison> {
  const runners = [ours, ...(theirs === undefined ? [] : [theirs])].map((program) => new Runner(program, plan));
  try {
    const introductions: Introduction[] = [];
    for (const runner of runners) {
      const introduction = await runner.start();
      if (introduction !== undefined) introductions.push(introduction);
      if (plan.apart) await runner.end();
    }
    const [own, other] = introductions;
    if (own !== undefined && other !== undefined) agree(own, other);
    for (let turn = 0; turn < plan.turns; turn += 1) {
      for (const runner of runners) await runner.turn();
    }
    const [mine, its] = runners.map((runner) => runner.times);
    if (mine === undefined) throw new RangeError('no side to time');
    if (its === undefined) return { ours: mine, introductions };
    return { ours: mine, theirs: its, ...compareTimes(mine.seconds, its.seconds), introductions };
  } finally {
    for (const runner of runners) await runner.end();
  }
}
