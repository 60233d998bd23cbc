import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { writeAtomic } from '../write-atomic.ts';
import { userCache } from './user-cache.ts';

/** Smaller files are read faster than it is worth to remember them: a tenth of a second. */
const LEAST_BYTES = 64 * 2 ** 20;

/** A file that changed so shortly before it was read may change again within the clock's grain, with the same times. */
const SETTLED_MS = 2000;

/** How to remember digests. */
export interface KnownDigestOptions {
  /** Where: `potstill/digests` of the user's cache by default (`XDG_CACHE_HOME`). */
  readonly folder?: string | undefined;
  /** Files that are not at least so large together are not remembered. */
  readonly leastBytes?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * SHA-256 of files, one after the other, in lower-case hex. A large checkpoint is read whole once: its digest is remembered
 * for as long as the files are the same on the same device, with the same sizes and times of their last changes. For what
 * a picture was made with; what is to prove something reads the files.
 */
export async function knownSha256(files: readonly string[], options: KnownDigestOptions = {}): Promise<string> {
  const { folder = defaultFolder(), leastBytes = LEAST_BYTES, signal } = options;
  const before = await identity(files);
  const known = join(folder, createHash('sha256').update(before.text).digest('hex'));
  if (before.bytes >= leastBytes) {
    const remembered = await readFile(known, 'utf8').catch(() => '');
    if (/^[0-9a-f]{64}\n$/.test(remembered)) return remembered.trim();
  }
  const hash = createHash('sha256');
  for (const file of files) {
    for await (const part of createReadStream(file, {
      highWaterMark: 1 << 20,
      ...(signal === undefined ? {} : { signal }),
    })) {
      hash.update(part as Buffer);
    }
  }
  const digest = hash.digest('hex');
  const isSettled = before.changedMs + SETTLED_MS < Date.now() && (await identity(files)).text === before.text;
  if (before.bytes >= leastBytes && isSettled) {
    // A cache that cannot be written costs time, nothing else.
    await writeAtomic(known, `${digest}\n`).catch(() => {});
  }
  return digest;
}

function defaultFolder(): string {
  return join(userCache(process.env), 'potstill', 'digests');
}

async function identity(files: readonly string[]): Promise<{ text: string; bytes: number; changedMs: number }> {
  const facts = await Promise.all(files.map((file) => stat(file, { bigint: true })));
  return {
    text: facts.map(({ dev, ino, size, mtimeNs, ctimeNs }) => [dev, ino, size, mtimeNs, ctimeNs].join(':')).join('\n'),
    bytes: facts.reduce((sum, { size }) => sum + Number(size), 0),
    changedMs: Math.max(0, ...facts.map(({ mtimeMs, ctimeMs }) => Number(mtimeMs > ctimeMs ? mtimeMs : ctimeMs))),
  };
}
