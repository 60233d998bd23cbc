import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';

const MODULE = new URL('../scripts/lib/lock.mjs', import.meta.url).href;
const PROCESSES = 6;
/** No process has this number: Linux ends at 2²², others far below. */
const DEAD_PROCESS = 2147483646;

const folder = mkdtempSync(join(tmpdir(), 'potstill-set-up-lock-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Adds one to a number in a file, with time between reading and writing for others to come in between. */
const PROGRAM = `
  const { withLock } = await import(${JSON.stringify(MODULE)});
  const { readFileSync, writeFileSync } = await import('node:fs');
  const { setTimeout } = await import('node:timers/promises');
  const [lock, file] = process.argv.slice(1);
  await withLock(lock, () => {}, async () => {
    const number = Number(readFileSync(file, 'utf8'));
    await setTimeout(50);
    writeFileSync(file, String(number + 1));
  });`;

test.each([
  ['free', undefined],
  ['a dead process had', `${DEAD_PROCESS} 1\n`],
])('of many set-ups one runs at a time, in a folder that was %s', { timeout: 120_000 }, async (name, owner) => {
  const place = join(folder, name);
  const [lock, file] = [join(place, 'running'), join(place, 'number')];
  mkdirSync(place);
  writeFileSync(file, '0');
  if (owner !== undefined) {
    mkdirSync(lock);
    writeFileSync(join(lock, 'owner'), owner);
  }
  const codes = await Promise.all(
    Array.from({ length: PROCESSES }, () => {
      const words = ['--input-type=module', '--eval', PROGRAM, lock, file];
      const child = spawn(process.execPath, words, { stdio: 'inherit' });
      return new Promise((resolve) => child.on('close', resolve));
    }),
  );
  expect(codes).toEqual(Array(PROCESSES).fill(0));
  expect(readFileSync(file, 'utf8')).toBe(String(PROCESSES));
  expect(readdirSync(place)).toEqual(['number']);
});

const { withLock } = (await import(MODULE)) as {
  withLock: <T>(lock: string, onWait: () => void, work: () => Promise<T>) => Promise<T>;
};

function failToWait(): never {
  throw new Error('waits for nobody');
}

test('what an earlier process of the same number left is taken over, what this one holds is not', async () => {
  const lock = join(folder, 'restarted');
  mkdirSync(lock);
  writeFileSync(join(lock, 'owner'), `${process.pid} 1\n`);
  const work = async (): Promise<string> => {
    await expect(withLock(lock, failToWait, () => Promise.resolve())).rejects.toThrow('waits for nobody');
    return 'done';
  };
  expect(await withLock(lock, failToWait, work)).toBe('done');
  expect(readdirSync(folder)).not.toContain('restarted');
});

test.runIf(process.platform === 'linux')('a process that got a dead one’s number does not hold its lock', async () => {
  const lock = join(folder, 'reused');
  mkdirSync(lock);
  writeFileSync(join(lock, 'owner'), `${process.ppid} 1 1\n`);
  expect(await withLock(lock, failToWait, () => Promise.resolve('done'))).toBe('done');
  mkdirSync(lock);
  writeFileSync(join(lock, 'owner'), `${process.ppid} 1\n`);
  await expect(withLock(lock, failToWait, () => Promise.resolve())).rejects.toThrow('waits for nobody');
});

test.each([
  ['folder', (path: string) => mkdirSync(join(path, 'notes'), { recursive: true }), 'is no lock: it names no owner'],
  ['owner', (path: string) => mkdirSync(join(path, 'owner'), { recursive: true }), 'cannot be read'],
  ['file', (path: string) => writeFileSync(path, ''), 'is no lock but a file'],
  ['link', (path: string) => symlinkSync('nowhere', path), 'is no lock but a file'],
])('a %s in the place of the lock is named, rather than waited for', async (name, make, what) => {
  const lock = join(folder, `foreign-${name}`);
  make(lock);
  const told = withLock(lock, failToWait, () => Promise.resolve());
  await expect(told).rejects.toThrow(`${lock} ${what}`);
  await expect(told).rejects.toThrow('remove it');
});
