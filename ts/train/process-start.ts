import { readFileSync } from 'node:fs';

/** Fields of /proc/PID/stat after the command's name, which may hold spaces and brackets; `starttime` is the 22nd of all. */
const START_TIME = 22 - 3;

/**
 * When a process of this machine started, in clock ticks since the machine did: with the number, it names a process
 * even after the number was given to another. Known on Linux only, and of processes that this one may see.
 */
export function processStart(pid: number): string | undefined {
  try {
    return parseProcessStart(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return undefined;
  }
}

/** @param stat text of /proc/PID/stat */
export function parseProcessStart(stat: string): string | undefined {
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[START_TIME];
}
