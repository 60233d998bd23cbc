import { spawn } from 'node:child_process';
import { expect, test } from 'vitest';
import { watchOthers } from './busy.ts';

/** A process that computes for a while and says so. */
const SPIN = "const end = performance.now() + 2000; while (performance.now() < end); console.log('done')";

async function spin(): Promise<{ readonly pid: number | undefined; readonly done: Promise<void> }> {
  const child = spawn(process.execPath, ['-e', `${SPIN}; process.stdin.resume()`]);
  const done = new Promise<void>((resolve) => {
    child.stdout.once('data', () => {
      resolve();
      // Ends only now: until it was asked for its time it must be there.
      setTimeout(() => child.kill(), 200);
    });
  });
  return { pid: child.pid, done };
}

test.runIf(process.platform === 'linux')(
  "others' work is told from that of a process and of those it started",
  async () => {
    const idle = spawn(process.execPath, ['-e', 'process.stdin.resume()']);
    // Whatever else runs here is in all figures: the spinning process is in that of the idle one alone.
    const { pid, done } = await spin();
    const [its, mine, others] = await Promise.all([pid, process.pid, idle.pid].map(watchOthers));
    await done;
    const [besideIt = 0, besideMe = 0, besideIdle = 0] = await Promise.all([its?.(), mine?.(), others?.()]);
    idle.kill();
    expect(besideIdle - besideIt).toBeGreaterThan(0.1);
    expect(besideIdle - besideMe).toBeGreaterThan(0.1);
    expect(await (await watchOthers(2 ** 30))()).toBeUndefined();
  },
);
