import { readFile } from 'node:fs/promises';
import { join, normalize } from 'node:path';

/** What a control group may use and uses, in bytes. */
export interface GroupMemory {
  readonly limit: number;
  /** Without the page cache that the kernel gives back on demand. */
  readonly used: number;
}

/**
 * File names of the two versions of control groups, and the prefix of their statistics: version 1 tells a group's own
 * numbers from those with the groups inside it, which its usage counts.
 */
const VERSIONS = {
  2: { limit: 'memory.max', used: 'memory.current', prefix: '' },
  1: { limit: 'memory.limit_in_bytes', used: 'memory.usage_in_bytes', prefix: 'total_' },
} as const;

/** The kernel's lists of page cache: files read once, and files read again. It gives back from both. */
const PAGE_CACHE = ['inactive_file', 'active_file'];

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
      const statistics = await read('memory.stat');
      const cached = PAGE_CACHE.map((list) => statistic(statistics, `${names.prefix}${list}`));
      return [{ limit, used: Math.max(0, used - cached.reduce((a, b) => a + b, 0)) }];
    }),
  );
  return found.flat();
}

/** A number of `memory.stat`; 0 when it is not there. */
function statistic(text: string, name: string): number {
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1] ?? 0);
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
