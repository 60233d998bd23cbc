import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';

/** Everything that is clean: pages, and the names and attributes of files. */
const ALL = '3';

/**
 * Makes the system forget the files that it holds in memory, so that the disk is read.
 *
 * @throws Error where that is not allowed (Linux, root)
 */
export function dropPageCache(): void {
  execFileSync('sync');
  writeFileSync('/proc/sys/vm/drop_caches', ALL);
}
