import { readFile } from 'node:fs/promises';
import { join, normalize } from 'node:path';

/** What a control group may use and uses, in bytes. */
export interface GroupMemory {
  readonly limit: number;
  /** Without the page cache that the kernel gives back on demand. */
  readonly used: number;
}

/** File names of the two versions of control groups, and the key of their reclaimable page cache. */
const VERSIONS = {
  2: { limit: 'memory.max', used: 'memory.current', inactive: 'inactive_file' },
  1: { limit: 'memory.limit_in_bytes', used: 'memory.usage_in_bytes', inactive: 'total_inactive_file' },
} as const;

/**
 * Memory of the control groups that hold this process, from its own up to the root: each of them may be the tightest.
 * A container sees its own group at the mount's root.
 *
 * @param mount where control groups are mounted
 * @param membership text of `/proc/self/cgroup`
 */
export async function groupMemory(mount: string, membership: string): Promise<readonly GroupMemory[]> {
  const found = await Promise.all(
    groupFolders(mount, membership).map(async ([folder, version]) => {
      const names = VERSIONS[version];
      const read = (name: string): Promise<string> => readFile(join(folder, name), 'utf8').catch(() => '');
      const limit = Number.parseInt(await read(names.limit), 10); // "max" is no number
      const used = Number.parseInt(await read(names.used), 10);
      if (!(limit > 0) || Number.isNaN(used)) return [];
      const inactive = new RegExp(`^${names.inactive} (\\d+)$`, 'm').exec(await read('memory.stat'))?.[1];
      return [{ limit, used: Math.max(0, used - Number(inactive ?? 0)) }];
    }),
  );
  return found.flat();
}

/** Folders to look in: of the line without controllers (version 2) and of the one with `memory` (version 1). */
function groupFolders(mount: string, membership: string): [folder: string, version: 1 | 2][] {
  return membership.split('\n').flatMap((line): [string, 1 | 2][] => {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) return [];
    if (controllers === '') return upwards(path).map((group) => [join(mount, group), 2]);
    if (!controllers.split(',').includes('memory')) return [];
    return upwards(path).map((group) => [join(mount, 'memory', group), 1]);
  });
}

/** A group and those above it: `/a/b`, `/a`, `/`. */
function upwards(path: string): string[] {
  const parts = normalize(path)
    .split('/')
    .filter((part) => part !== '' && part !== '..');
  return parts.map((_, index) => `/${parts.slice(0, parts.length - index).join('/')}`).concat('/');
}

/** Bytes of address space that this process may still map under `ulimit -v`; infinity without a limit. */
export function parseAddressSpace(limits: string, status: string): number {
  const limit = /^Max address space\s+(\d+)/m.exec(limits)?.[1];
  const used = /^VmSize:\s+(\d+) kB$/m.exec(status)?.[1];
  if (limit === undefined || used === undefined) return Number.POSITIVE_INFINITY;
  return Math.max(0, Number(limit) - Number(used) * 1024);
}
