import { readdir, readFile } from 'node:fs/promises';

/** Of a processor: more than this of it at work for others is said. */
export const QUIET = 0.1;

/** Clock ticks of a second in /proc: the same on every Linux that Node runs on. */
const TICKS = 100;
/** Seconds below which nothing is said: the ticks of several counters would be most of it. */
const SHORTEST = 0.5;
/** In a line of /proc/stat: user, nice, system; then idle and wait for the disk, which are none of the processor's work. */
const WORKED = 3;
/** In /proc/PID/stat, counted after the process's name: who started it. */
const PARENT = 1;
/** In the same: time in the program, in the system for it, and both for the processes that it started and that have ended. */
const OWN = [11, 12, 13, 14] as const;

/** Seconds that processors have worked: all of them, and for one process with those that it started. */
interface Worked {
  readonly at: number;
  readonly all: number;
  readonly own: number;
}

/**
 * Watches what else a machine does while a process is timed: a figure of a busy machine is worth little.
 *
 * @returns asked at the end, how many processors were at work for others on average; undefined where there is no /proc, and after less than half a second
 */
export async function watchOthers(pid: number | undefined): Promise<() => Promise<number | undefined>> {
  const before = await worked(pid);
  return async () => {
    const after = await worked(pid);
    if (before === undefined || after === undefined) return undefined;
    const elapsed = after.at - before.at;
    if (elapsed < SHORTEST) return undefined;
    const others = after.all - before.all - (after.own - before.own);
    return Math.max(0, others) / elapsed;
  };
}

async function worked(pid: number | undefined): Promise<Worked | undefined> {
  try {
    const [machine, own] = await Promise.all([readFile('/proc/stat', 'utf8'), ticksOf(pid)]);
    const sum = (ticks: readonly string[]): number => ticks.reduce((total, value) => total + Number(value), 0) / TICKS;
    const [first = ''] = machine.split('\n');
    const all = sum(first.split(/\s+/).slice(1, 1 + WORKED));
    return { at: performance.now() / 1000, all, own: sum(own) };
  } catch {
    return undefined;
  }
}

/** What the counters of a process and of those that it started, and so on, show. */
async function ticksOf(pid: number | undefined): Promise<readonly string[]> {
  const numbers = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const processes = new Map<string, readonly string[]>();
  for (const number of numbers) {
    // One that has ended since it was listed has no counters any more.
    const text = await readFile(`/proc/${number}/stat`, 'utf8').catch(() => '');
    // The name, in brackets, may hold anything.
    if (text !== '') processes.set(number, text.slice(text.lastIndexOf(')') + 2).split(' '));
  }
  const family = [String(pid)];
  if (!processes.has(String(pid))) throw new RangeError(`there is no process ${pid}`);
  for (const member of family) {
    for (const [number, fields] of processes) if (fields[PARENT] === member) family.push(number);
  }
  return family.flatMap((member) => OWN.map((at) => processes.get(member)?.[at] ?? '0'));
}
