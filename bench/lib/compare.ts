import { watchOthers } from './busy.ts';
import { type Iteration, Peer, type Program } from './peer.ts';
import { compareTimes, type Ratio, type Summary, summarise } from './statistics.ts';

/** What a program is measured for: potstill's and, where there is one, another's. */
export interface Sides {
  readonly ours: Program;
  readonly theirs?: Program | undefined;
}

/** How often, and how. */
export interface Plan {
  /** Turns: iterations of each side in each, in a process of its own. An interval takes two or more. */
  readonly turns: number;
  readonly iterations: number;
  /** Iterations of a process that do not count, after those that its introduction takes. */
  readonly warmUp: number;
}

/** One side's times. */
export interface Times extends Summary {
  /** Of every iteration, turn by turn. */
  readonly seconds: readonly (readonly number[])[];
  /** The most memory that a process of this side has had, while it was timed. */
  readonly peakBytes: number;
}

/** Times of both sides, and how they compare. */
export interface Comparison extends Partial<Ratio> {
  readonly ours: Times;
  readonly theirs?: Times;
  /** Processors that were at work for other processes on average while a turn was timed, at most; absent if unknown. */
  readonly othersBusy?: number;
  /** What each side said of itself. */
  readonly introductions: readonly Introduction[];
}

/** What a side says before it is timed. */
export type Introduction = Readonly<Record<string, unknown>>;

/** One turn of one side: a process from its start to its end, so that two are never in memory at once. */
async function takeTurn(program: Program, { iterations, warmUp }: Plan) {
  const peer = new Peer(program);
  try {
    const introduction: Introduction = await peer.introduce();
    for (let i = 0; i < warmUp; i += 1) await peer.run();
    const timed: Iteration[] = [];
    const others = await watchOthers(peer.pid);
    while (timed.length < iterations) timed.push(await peer.run());
    return { introduction, timed, others: await others() };
  } finally {
    await peer.end();
  }
}

/** What a program says of itself when it is started. */
export async function introduce(program: Program): Promise<Introduction> {
  return (await takeTurn(program, { turns: 1, iterations: 0, warmUp: 0 })).introduction;
}

/**
 * Times the sides in turns, with fresh processes in each: whatever else the machine does meets both alike, and how lucky
 * one process is shows in the interval.
 *
 * @param agree compares what the sides computed, before anything is timed; throws when they differ
 */
export async function compare(
  { ours, theirs }: Sides,
  plan: Plan,
  agree: (ours: Introduction, theirs: Introduction) => void,
): Promise<Comparison> {
  const programs = [ours, ...(theirs === undefined ? [] : [theirs])];
  const introductions: Introduction[] = [];
  for (const program of programs) introductions.push(await introduce(program));
  const [own, other] = introductions;
  if (own !== undefined && other !== undefined) agree(own, other);
  const turns: Iteration[][][] = programs.map(() => []);
  let busiest: number | undefined;
  for (let turn = 0; turn < plan.turns; turn += 1) {
    for (const [side, program] of programs.entries()) {
      const { timed, others } = await takeTurn(program, plan);
      turns[side]?.push(timed);
      if (others !== undefined) busiest = Math.max(busiest ?? 0, others);
    }
  }
  const [mine, its] = turns.map(timesOf);
  if (mine === undefined) throw new RangeError('no side to time');
  const about = { introductions, ...(busiest === undefined ? {} : { othersBusy: busiest }) };
  if (its === undefined) return { ours: mine, ...about };
  const ratio = plan.turns < 2 ? { ratio: mine.median / its.median } : compareTimes(mine.seconds, its.seconds);
  return { ours: mine, theirs: its, ...ratio, ...about };
}

function timesOf(turns: readonly (readonly Iteration[])[]): Times {
  const seconds = turns.map((turn) => turn.map((iteration) => iteration.seconds));
  const peakBytes = Math.max(...turns.flat().map((iteration) => iteration.peakBytes));
  return { ...summarise(seconds.flat()), seconds, peakBytes };
}
