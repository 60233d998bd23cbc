import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LOCK, lockFolder } from './folder-lock.ts';
import { processStart } from './process-start.ts';

/** No process has this number: Linux ends at 2²², others far below. */
const DEAD_PROCESS = 2147483646;
const CONTENDERS = 24;
const ROUNDS = 5;
const WORKERS = 6;

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'potstill-lock-'));
});
afterEach(() => rm(folder, { recursive: true }));

async function leaveLock(text: string): Promise<void> {
  await mkdir(join(folder, LOCK), { recursive: true });
  await writeFile(join(folder, LOCK, 'owner'), text);
}

/** Lets many try at once; gives what releases the folder for each that got it. The others must have been told why. */
async function contend(): Promise<(() => Promise<void>)[]> {
  const results = await Promise.allSettled(Array.from({ length: CONTENDERS }, () => lockFolder(folder)));
  for (const result of results) {
    if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'ERR_RUN_BUSY' });
  }
  return results.flatMap((result) => (result.status === 'fulfilled' ? result.value : []));
}

describe('lockFolder', () => {
  it('lets one of many in', async () => {
    for (let round = 0; round < ROUNDS; round += 1) {
      const [release, ...others] = await contend();
      expect(others).toEqual([]);
      await release?.();
      expect(await readdir(folder)).toEqual([]);
    }
  });

  it.each([
    ['a process that died', `${hostname()} ${DEAD_PROCESS} 1\n`],
    ['a process that had the number of this one', `${hostname()} ${process.pid} 1\n`],
    ['one of this number that started at another time', `${hostname()} ${process.pid} 1 1\n`],
    ['a crash that left half of it', ''],
  ])('lets one of many take over from %s', async (_, text) => {
    for (let round = 0; round < ROUNDS; round += 1) {
      await leaveLock(text);
      const [release, ...others] = await contend();
      expect(others).toEqual([]);
      await expect(lockFolder(folder)).rejects.toMatchObject({ code: 'ERR_RUN_BUSY' });
      await release?.();
      expect(await readdir(folder)).toEqual([]);
    }
  });

  it('is never held twice while holders come and go beside a dead one', async () => {
    await leaveLock(`${hostname()} ${DEAD_PROCESS} 1\n`);
    let holders = 0;
    let times = 0;
    const worker = async (): Promise<void> => {
      while (times < 10 * ROUNDS) {
        const release = await lockFolder(folder).catch(() => undefined);
        if (release === undefined) continue;
        holders += 1;
        expect(holders).toBe(1);
        times += 1;
        await new Promise(setImmediate);
        holders -= 1;
        await release();
      }
    };
    await Promise.all(Array.from({ length: WORKERS }, worker));
    expect(times).toBeGreaterThanOrEqual(10 * ROUNDS);
  });

  it('tells a living process from another that had its number', async () => {
    const parent = process.ppid;
    const start = processStart(parent) ?? '';
    await leaveLock(`${hostname()} ${parent} 1 ${start}\n`);
    await expect(lockFolder(folder)).rejects.toMatchObject({ code: 'ERR_RUN_BUSY' });
    await leaveLock(`${hostname()} ${parent} 1\n`);
    await expect(lockFolder(folder)).rejects.toMatchObject({ code: 'ERR_RUN_BUSY' });
    if (start === '') return; // known on Linux only
    await leaveLock(`${hostname()} ${parent} 1 ${Number(start) + 1}\n`);
    await (await lockFolder(folder))();
    expect(await readdir(folder)).toEqual([]);
  });

  it.each([
    ['a folder without an owner', (path: string) => mkdir(join(path, 'notes'), { recursive: true })],
    ['an owner that is no file', (path: string) => mkdir(join(path, 'owner'), { recursive: true })],
    ['a file', (path: string) => writeFile(path, '')],
    ['a link that leads nowhere', (path: string) => symlink('nowhere', path)],
  ])('refuses %s in its place, and leaves it there', async (_, make) => {
    await make(join(folder, LOCK));
    await expect(lockFolder(folder)).rejects.toMatchObject({
      code: 'ERR_RUN_LOCK',
      kind: 'input',
      where: join(folder, LOCK),
      remedy: expect.stringContaining('remove it'),
    });
    expect(await readdir(folder)).toEqual([LOCK]);
  });

  it('does not judge processes of other machines', async () => {
    await leaveLock(`elsewhere-${hostname()} ${DEAD_PROCESS} 1\n`);
    await expect(lockFolder(folder)).rejects.toMatchObject({
      code: 'ERR_RUN_BUSY',
      what: expect.stringContaining('elsewhere'),
      remedy: expect.stringContaining(join(folder, LOCK)),
    });
  });
});
