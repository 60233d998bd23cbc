import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { inputError } from '../errors.ts';

/** A folder with one file, which names who writes into the folder around it. */
export const LOCK = '.lock';
/** Host, process and a number of its own, for two locks of one process are two. */
const OWNER = 'owner';

interface Lock {
  readonly name: string;
  /** Stands for this owner in the name of the lock that takes over from it. */
  readonly id: string;
  readonly host: string;
  readonly process: number;
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
 * @throws PotstillError when another process has it
 */
export async function lockFolder(folder: string): Promise<() => Promise<void>> {
  for (;;) {
    const chain = await readChain(folder);
    const last = chain.at(-1);
    if (last !== undefined && isHeld(last)) throw busy(folder, last);
    const name = last === undefined ? LOCK : successorOf(last);
    const id = await publish(folder, name);
    if (id === undefined) continue;
    const now = await readChain(folder);
    if (now.at(-1)?.id === id) return () => remove(folder, now);
    await remove(folder, [{ name }]);
  }
}

/** The locks from the first to the one that counts; none when the folder is free. */
async function readChain(folder: string): Promise<Lock[]> {
  const chain: Lock[] = [];
  for (let name = LOCK; ; ) {
    const text = await readFile(join(folder, name, OWNER), 'utf8').catch(() => undefined);
    if (text === undefined) return chain;
    const [host = '', process] = text.trim().split(' ');
    const lock = { name, id: idOf(text), host, process: Number(process) };
    chain.push(lock);
    name = successorOf(lock);
  }
}

/** Puts a lock of this process at a name that is free; gives its id, or nothing when the name was taken. */
async function publish(folder: string, name: string): Promise<string | undefined> {
  const token = randomUUID();
  const made = join(folder, `${LOCK}-new-${token}`);
  const text = `${hostname()} ${process.pid} ${token}\n`;
  await mkdir(made);
  try {
    await writeFile(join(made, OWNER), text);
    await rename(made, join(folder, name));
    return idOf(text);
  } catch (error) {
    await rm(made, { recursive: true, force: true });
    if (['ENOTEMPTY', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
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
function isHeld({ host, process: pid }: Lock): boolean {
  if (!(pid > 0)) return false;
  return host !== hostname() || isAlive(pid);
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
