import { createHash, randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { processStart } from './process-start.mjs';
import { RequirementError } from './requirements.mjs';

const POLL_MS = 500;
/** Process, a token of its own, and the process's start where that is known. */
const OWNER = 'owner';

/** Tokens of this process's locks. One of the same number that ran before it, as in a container, has left others. */
const ownTokens = new Set();

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
 * @throws {RequirementError} when something lies at the lock's place that is no lock, or that cannot be read
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
    if (last !== undefined && isHeld(last)) return undefined;
    const folder = last === undefined ? lock : last.successor;
    const text = publish(folder);
    if (text === undefined) {
      requireLock(folder);
      continue;
    }
    const chain = readChain(lock);
    if (chain.at(-1)?.text === text) return chain;
    // The chain was released meanwhile: this lock is in none.
    remove([folder]);
  }
}

function readChain(lock) {
  const chain = [];
  for (let folder = lock; ; folder = chain.at(-1).successor) {
    const text = readOwner(folder);
    if (text === undefined) return chain;
    const id = createHash('sha256').update(text).digest('hex').slice(0, 16);
    const [pid, token, start] = text.trim().split(' ');
    chain.push({ folder, text, process: Number(pid), token, start, successor: `${lock}-after-${id}` });
  }
}

/** What a lock says of its owner; nothing when there is no lock. */
function readOwner(folder) {
  try {
    return readFileSync(join(folder, OWNER), 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw unusable(folder, error.code === 'ENOTDIR' ? 'is no lock but a file' : `cannot be read: ${error.message}`);
  }
}

/** Locks come and go whole: a folder that has something in it but no owner is none, and waiting for it would not end. */
function requireLock(folder) {
  let names;
  try {
    names = readdirSync(folder);
  } catch {
    return; // gone meanwhile
  }
  if (names.length > 0 && !names.includes(OWNER)) throw unusable(folder, 'is no lock: it names no owner');
}

function unusable(path, what) {
  return new RequirementError(`${path} ${what}. Make sure that no other set-up is running, then remove it.`);
}

/** Puts a lock of this process there and gives its text, or nothing when there is one already. */
function publish(folder) {
  const made = `${folder}-new-${randomUUID()}`;
  const token = randomUUID();
  const text = `${[process.pid, token, processStart(process.pid)].filter(Boolean).join(' ')}\n`;
  mkdirSync(made);
  // Before others can see it.
  ownTokens.add(token);
  try {
    writeFileSync(join(made, OWNER), text);
    renameSync(made, folder);
    return text;
  } catch (error) {
    ownTokens.delete(token);
    rmSync(made, { recursive: true, force: true });
    // A file, or a link whatever it leads to.
    if (error.code === 'ENOTDIR') throw unusable(folder, 'is no lock but a file');
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

function isHeld({ process: pid, token, start }) {
  // What names no process was cut by a crash; 0 would ask the process group.
  if (!(pid > 0)) return false;
  if (pid === process.pid) return ownTokens.has(token);
  return isAlive(pid) && !wasReused(pid, start);
}

/** Whether the number belongs to another process by now. */
function wasReused(pid, start) {
  const now = processStart(pid);
  return start !== undefined && now !== undefined && start !== now;
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}
