import { readFileSync } from 'node:fs';

/** Fields of /proc/PID/stat after the command's name, which may hold spaces and brackets; `starttime` is the 22nd of all. */
const START_TIME = 22 - 3;

/**
 * When a process started, in clock ticks since the machine did; nothing where that is not known (it is on Linux).
 *
 * @param {number} pid
 * @returns {string | undefined}
 */
export function processStart(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[START_TIME];
  } catch {
    return undefined;
  }
}
