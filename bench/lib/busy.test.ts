import { spawn } from 'node:child_process';
import { expect, test } from 'vitest';
import { watchOthers } from './busy.ts';

/** A process that computes for a while and says so. */
const SPIN = "const end = performance.now() + 800; while (performance.now() < end); console.log('done')";

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

test.runIf(process.platform === 'linux')("others' work is told from that of the process that is timed", async () => {
  // Whatever else runs here is in both figures: the spinning process is in one of them alone.
  const { pid, done } = await spin();
  const [its, mine] = await Promise.all([watchOthers(pid), watchOthers(process.pid)]);
  await done;
  const [besideIt, besideMe] = await Promise.all([its(), mine()]);
  expect(await (await watchOthers(process.pid))()).toBeUndefined();
  expect((besideMe ?? 0) - (besideIt ?? 0)).toBeGreaterThan(0.1);
  expect(await (await watchOthers(2 ** 30))()).toBeUndefined();
});
