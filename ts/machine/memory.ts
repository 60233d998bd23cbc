import { readFile, statfs } from 'node:fs/promises';
import { freemem, totalmem } from 'node:os';
import { groupMemory, parseAddressSpace } from './limits.ts';

/** Main memory, in bytes. */
export interface Memory {
  /** What the machine has, or what a container may use. */
  readonly total: number;
  /** What can be had without swapping. */
  readonly available: number;
}

/** Memory of this machine, or of the container or limits (`ulimit -v`) that this process runs under. */
export async function inspectMemory(): Promise<Memory> {
  const read = (file: string): Promise<string> => readFile(file, 'utf8').catch(() => '');
  const groups = await groupMemory('/sys/fs/cgroup', await read('/proc/self/cgroup'));
  const space = parseAddressSpace(await read('/proc/self/limits'), await read('/proc/self/status'));
  const available = parseAvailable(await read('/proc/meminfo')) ?? freemem();
  return {
    total: Math.min(totalmem(), ...groups.map(({ limit }) => limit)),
    available: Math.max(0, Math.min(available, space, ...groups.map(({ limit, used }) => limit - used))),
  };
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
