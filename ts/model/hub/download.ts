import { createHash, type Hash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { open, rename, stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ReadableStream } from 'node:stream/web';
import { inputError, machineError } from '../../errors.ts';
import { statusError } from './errors.ts';

/** A file of a repository, with what proves its content. */
export interface HubFile {
  readonly path: string;
  readonly size: number;
  /** SHA-256 of large files; git's blob digest of small ones. Names the blob in the cache, too. */
  readonly digest: { readonly kind: 'sha256' | 'git'; readonly hex: string };
}

/** How to fetch one file. */
export interface DownloadOptions {
  readonly url: string;
  readonly token: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Bytes that are there, of this file. */
  readonly onBytes: (done: number) => void;
}

/**
 * Downloads a file to `target`, through `target.incomplete`, which a later call goes on with. The content is checked
 * before it gets its name.
 *
 * @throws PotstillError when the Hub refuses, the connection ends, or the content is not what the Hub's listing says
 */
export async function download(file: HubFile, target: string, options: DownloadOptions): Promise<void> {
  const incomplete = `${target}.incomplete`;
  let there = await sizeOf(incomplete);
  if (there > file.size) there = 0;
  if (there < file.size || file.size === 0) await fetchRest(file, incomplete, there, options);
  await checkDigest(file, incomplete, options);
  const handle = await open(incomplete, 'r+');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(incomplete, target);
}

async function fetchRest(file: HubFile, incomplete: string, from: number, options: DownloadOptions): Promise<void> {
  const { url, token, signal, onBytes } = options;
  const headers: Record<string, string> = {};
  if (token !== undefined) headers['authorization'] = `Bearer ${token}`;
  if (from > 0) headers['range'] = `bytes=${from}-`;
  const response = await fetch(url, { headers, ...(signal === undefined ? {} : { signal }) });
  if (!response.ok || response.body === null) throw statusError(response.status, url);
  // A server that knows no ranges sends all of it again.
  let done = response.status === 206 ? from : 0;
  const flags = done > 0 ? 'a' : 'w';
  const body = Readable.fromWeb(response.body as ReadableStream<Uint8Array>);
  const counted = async function* (chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      done += chunk.byteLength;
      if (done > file.size) throw wrongContent(file, `more than its ${file.size} bytes arrived`);
      onBytes(done);
      yield chunk;
    }
  };
  await pipeline(
    body,
    counted,
    createWriteStream(incomplete, { flags }),
    ...(signal === undefined ? [] : [{ signal }]),
  );
  if (done < file.size) {
    throw machineError('ERR_HUB_UNREACHABLE', `the connection ended after ${done} of ${file.size} bytes`, {
      where: url,
      remedy: 'Run the same command again: it goes on where it stopped.',
    });
  }
}

async function checkDigest(file: HubFile, path: string, { signal }: DownloadOptions): Promise<void> {
  const hash = startHash(file);
  for await (const chunk of createReadStream(path, {
    highWaterMark: 1 << 20,
    ...(signal === undefined ? {} : { signal }),
  })) {
    hash.update(chunk as Buffer);
  }
  if (hash.digest('hex') === file.digest.hex) return;
  const { rm } = await import('node:fs/promises');
  await rm(path, { force: true }); // going on from damaged bytes would never end well
  throw wrongContent(file, `its ${file.digest.kind} digest is not ${file.digest.hex}`);
}

function startHash(file: HubFile): Hash {
  if (file.digest.kind === 'sha256') return createHash('sha256');
  // git digests a small header before the content.
  return createHash('sha1').update(`blob ${file.size}\0`);
}

function wrongContent(file: HubFile, what: string): Error {
  return inputError('ERR_HUB_DIGEST', `the download is not the file that the Hub lists: ${what}`, {
    where: file.path,
    remedy: 'Run the same command again; if it stays so, something between here and the Hub changes files.',
  });
}

async function sizeOf(path: string): Promise<number> {
  return (await stat(path).catch(() => undefined))?.size ?? 0;
}
