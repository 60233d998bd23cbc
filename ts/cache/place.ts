import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { inputError } from '../errors.ts';
import { cancelled } from '../native/cancel.ts';
import type { CacheFile } from '../native/generated/binding.js';
import { addon } from '../native/load.ts';
import { unwrap } from '../native/outcome.ts';

export type { CacheFile };

/** What names of places in S3 begin with. */
const S3 = 's3://';

/** Whether a cache is in S3 (`s3://bucket/prefix`) rather than in a folder. */
export function isRemote(cache: string): boolean {
  return cache.startsWith(S3);
}

/** A file or folder of a cache, as messages name it. */
export function placeIn(cache: string, path: string): string {
  return isRemote(cache) ? `${cache.replace(/\/+$/, '')}/${path}` : join(cache, path);
}

/**
 * Every file of a cache in S3.
 *
 * @throws PotstillError `ERR_S3_REFUSED`, `ERR_S3_UNREACHABLE` …
 */
export async function listRemote(cache: string, signal?: AbortSignal): Promise<readonly CacheFile[]> {
  using cancel = cancelled(signal);
  const outcome = await addon().listCache(cache, cancel.token);
  signal?.throwIfAborted();
  return unwrap(outcome);
}

/**
 * A document of a cache, such as `text/plan.json`; undefined where there is none.
 *
 * @param path relative to the cache, with `/` between the parts
 */
export async function readDocument(cache: string, path: string): Promise<string | undefined> {
  if (isRemote(cache)) return unwrap(await addon().readCacheDocument(cache, path)) ?? undefined;
  try {
    return await readFile(join(cache, path), 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR'))
      return undefined;
    throw error;
  }
}

/**
 * Refuses a cache in S3 where only folders can be worked on.
 *
 * @param who what works on folders alone, as `cache gc`
 * @throws PotstillError `ERR_S3_LOCATION`
 */
export function requireFolder(cache: string, who: string): void {
  if (!isRemote(cache)) return;
  throw inputError('ERR_S3_LOCATION', `${who} works on folders, not on what is in S3`, {
    where: cache,
    remedy: 'Copy the cache to a folder first, for instance with `aws s3 sync`, and name that.',
  });
}
