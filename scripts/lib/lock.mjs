import { createHash, randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout } from 'node:timers/promises';

const POLL_MS = 500;
const OWNER = 'owner';

/**
 * Runs work while no other process does the same: two terminals may both say `npm test`.
 *
 * The lock is a folder, for a folder with something in it can be renamed to a name that is free and to no other, so one
 * of many wins. A dead owner's lock is not removed (somebody else may have come since it was looked at) but gets a
 * successor named after it: who is last in this chain has the lock.
 *
 * @param {string} lock the folder; it names the owner's process
 * @param {() => void} onWait called once when another process has it
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 * @template T
 */
export async function withLock(lock, onWait, work) {
  mkdirSync(dirname(lock), { recursive: true });
  let chain = claim(lock);
  for (let waited = false; chain === undefined; chain = claim(lock), waited = true) {
    if (!waited) onWait();
    await setTimeout(POLL_MS);
  }
  const release = () => remove(chain.map(({ folder }) => folder));
  process.once('exit', release);
  try {
    return await work();
  } finally {
    process.off('exit', release);
    release();
  }
}

/** The chain that ends in this process's lock, or nothing when another process has it. */
function claim(lock) {
  for (;;) {
    const last = readChain(lock).at(-1);
    if (last !== undefined && isAlive(last.process)) return undefined;
    const folder = last === undefined ? lock : last.successor;
    const text = publish(folder);
    if (text === undefined) continue;
    const chain = readChain(lock);
    if (chain.at(-1)?.text === text) return chain;
    // The chain was released meanwhile: this lock is in none.
    remove([folder]);
  }
}

function readChain(lock) {
  const chain = [];
  for (let folder = lock; ; folder = chain.at(-1).successor) {
    let text;
    try {
      text = readFileSync(join(folder, OWNER), 'utf8');
    } catch {
      return chain;
    }
    const id = createHash('sha256').update(text).digest('hex').slice(0, 16);
    chain.push({ folder, text, process: Number(text.split(' ')[0]), successor: `${lock}-after-${id}` });
  }
}

/** Puts a lock of this process there and gives its text, or nothing when there is one already. */
function publish(folder) {
  const made = `${folder}-new-${randomUUID()}`;
  const text = `${process.pid} ${randomUUID()}\n`;
  mkdirSync(made);
  try {
    writeFileSync(join(made, OWNER), text);
    renameSync(made, folder);
    return text;
  } catch (error) {
    rmSync(made, { recursive: true, force: true });
    if (error.code === 'ENOTEMPTY' || error.code === 'EEXIST') return undefined;
    throw error;
  }
}

/** Removes locks, the first one first: without it the others hold nobody. */
function remove(folders) {
  for (const folder of folders) {
    const away = `${folder}-old-${randomUUID()}`;
    try {
      renameSync(folder, away);
    } catch (error) {
      if (error.code !== 'ENOENT') throw error;
      continue;
    }
    rmSync(away, { recursive: true, force: true });
  }
}

function isAlive(pid) {
  // What names no process was cut by a crash; 0 would ask the process group.
  if (!(pid > 0)) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}
