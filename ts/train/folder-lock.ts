import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { inputError } from '../errors.ts';
import { processStart } from './process-start.ts';

/** A folder with one file, which names who writes into the folder around it. */
export const LOCK = '.lock';
/** Host, process, a token of its own (two locks of one process are two), and the process's start where that is known. */
const OWNER = 'owner';

/** Tokens of this process's locks. One of the same number that ran before it, as in a container, has left others. */
const ownTokens = new Set<string>();

interface Lock {
  readonly name: string;
  /** Stands for this owner in the name of the lock that takes over from it. */
  readonly id: string;
  readonly host: string;
  readonly process: number;
  readonly token: string | undefined;
  readonly start: string | undefined;
}

/** A lock of this process. */
interface OwnLock {
  readonly id: string;
  readonly token: string;
}

/**
 * Keeps other processes out of a folder. A lock whose process died on this machine is taken over.
 *
 * A folder with something in it can be renamed to a name that is free, and to no other: of many who try at once one
 * wins, and its lock is whole at once. A dead owner's lock is not removed, for between looking at it and removing it
 * somebody else may have come; it gets a successor, whose name holds the dead one's id. So locks form a chain, and who
 * is last in it has the folder. Whoever finds that its lock is in no chain after all (the owner in between has left and
 * taken the chain along) tries again.
 *
 * @returns what releases the folder
 * @throws PotstillError `ERR_RUN_BUSY` when another process has it; `ERR_RUN_LOCK` when something lies at the lock's
 *   place that is no lock, or that cannot be read
 */
export async function lockFolder(folder: string): Promise<() => Promise<void>> {
  for (;;) {
    const chain = await readChain(folder);
    const last = chain.at(-1);
    if (last !== undefined && isHeld(last)) throw busy(folder, last);
    const name = last === undefined ? LOCK : successorOf(last);
    const own = await publish(folder, name);
    if (own === undefined) {
      await requireLock(join(folder, name));
      continue;
    }
    const release = async (locks: readonly Pick<Lock, 'name'>[]): Promise<void> => {
      await remove(folder, locks);
      ownTokens.delete(own.token);
    };
    const now = await readChain(folder);
    if (now.at(-1)?.id === own.id) return () => release(now);
    await release([{ name }]);
  }
}

/** The locks from the first to the one that counts; none when the folder is free. */
async function readChain(folder: string): Promise<Lock[]> {
  const chain: Lock[] = [];
  for (let name = LOCK; ; ) {
    const text = await readOwner(join(folder, name));
    if (text === undefined) return chain;
    const [host = '', process, token, start] = text.trim().split(' ');
    const lock = { name, id: idOf(text), host, process: Number(process), token, start };
    chain.push(lock);
    name = successorOf(lock);
  }
}

/** What a lock says of its owner; nothing when there is no lock. */
async function readOwner(lock: string): Promise<string | undefined> {
  try {
    return await readFile(join(lock, OWNER), 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw unusable(lock, code === 'ENOTDIR' ? 'is no lock but a file' : `cannot be read: ${message}`);
  }
}

/**
 * Refuses a folder that is taken by something other than a lock. Locks come and go whole, so one that was there has its
 * owner's file or has gone meanwhile.
 */
async function requireLock(path: string): Promise<void> {
  const names = await readdir(path).catch((): string[] => []);
  if (names.length > 0 && !names.includes(OWNER)) throw unusable(path, 'is no lock: it names no owner');
}

/** Puts a lock of this process at a name that is free; gives nothing when the name was taken. */
async function publish(folder: string, name: string): Promise<OwnLock | undefined> {
  const token = randomUUID();
  const made = join(folder, `${LOCK}-new-${token}`);
  const start = processStart(process.pid);
  const text = `${hostname()} ${process.pid} ${token}${start === undefined ? '' : ` ${start}`}\n`;
  await mkdir(made);
  // Before others can see it.
  ownTokens.add(token);
  try {
    await writeFile(join(made, OWNER), text);
    await rename(made, join(folder, name));
    return { id: idOf(text), token };
  } catch (error) {
    ownTokens.delete(token);
    await rm(made, { recursive: true, force: true });
    const { code = '' } = error as NodeJS.ErrnoException;
    if (['ENOTEMPTY', 'EEXIST'].includes(code)) return undefined;
    // A file, or a link whatever it leads to.
    if (code === 'ENOTDIR') throw unusable(join(folder, name), 'is no lock but a file');
    throw error;
  }
}

/** Removes locks, the first one first: without it the others hold nobody. Renaming them away leaves no half of one. */
async function remove(folder: string, locks: readonly Pick<Lock, 'name'>[]): Promise<void> {
  for (const { name } of locks) {
    const away = join(folder, `${LOCK}-old-${randomUUID()}`);
    try {
      await rename(join(folder, name), away);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      continue;
    }
    await rm(away, { recursive: true, force: true });
  }
}

function idOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

function successorOf({ id }: Pick<Lock, 'id'>): string {
  return `${LOCK}-after-${id}`;
}

/** Processes of other machines cannot be asked, so they count as alive. What names no process was cut by a crash. */
function isHeld({ host, process: pid, token = '', start }: Lock): boolean {
  if (!(pid > 0)) return false;
  if (host !== hostname()) return true;
  if (pid === process.pid) return ownTokens.has(token);
  return isAlive(pid) && !wasReused(pid, start);
}

/** Whether the number belongs to another process by now. */
function wasReused(pid: number, start: string | undefined): boolean {
  const now = processStart(pid);
  return start !== undefined && now !== undefined && start !== now;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function busy(folder: string, { host, process }: Lock): Error {
  return inputError('ERR_RUN_BUSY', `process ${process} on ${host} is writing into this run`, {
    where: folder,
    remedy: `Wait for it or stop it; if it is gone, remove ${join(folder, LOCK)}.`,
  });
}

function unusable(path: string, what: string): Error {
  return inputError('ERR_RUN_LOCK', what, {
    where: path,
    remedy: 'Make sure that no training writes into this run, then remove it.',
  });
}
