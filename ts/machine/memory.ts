import { readFile, statfs } from 'node:fs/promises';
import { freemem, totalmem } from 'node:os';

/** Main memory, in bytes. */
export interface Memory {
  /** What the machine has, or what a container may use. */
  readonly total: number;
  /** What can be had without swapping. */
  readonly available: number;
}

export async function inspectMemory(): Promise<Memory> {
  const meminfo = await readFile('/proc/meminfo', 'utf8').catch(() => '');
  const limit = Number(await readFile('/sys/fs/cgroup/memory.max', 'utf8').catch(() => ''));
  const used = Number(await readFile('/sys/fs/cgroup/memory.current', 'utf8').catch(() => ''));
  const available = parseAvailable(meminfo) ?? freemem();
  if (!(limit > 0 && limit < totalmem())) return { total: totalmem(), available };
  return { total: limit, available: Math.max(0, Math.min(available, limit - used)) };
}

/** Bytes of `MemAvailable` in Linux's `/proc/meminfo`, which counts what the page cache can give back. */
export function parseAvailable(meminfo: string): number | undefined {
  const kibibytes = /^MemAvailable:\s+(\d+) kB$/m.exec(meminfo)?.[1];
  return kibibytes === undefined ? undefined : Number(kibibytes) * 1024;
}

/** A disk as seen from a folder, in bytes. */
export interface Disk {
  readonly folder: string;
  readonly total: number;
  /** What a user without privileges may still write. */
  readonly available: number;
}

export async function inspectDisk(folder: string): Promise<Disk> {
  const { bsize, blocks, bavail } = await statfs(folder);
  return { folder, total: bsize * blocks, available: bsize * bavail };
}
