import { createHash } from 'node:crypto';
import { mkdtemp, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { knownSha256 } from './known-digest.ts';

let folder = '';
const at = (name: string): string => join(folder, name);
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const known = (...files: string[]): Promise<string> =>
  knownSha256(files.map(at), { folder: at('known'), leastBytes: 4 });
const remembered = async (): Promise<readonly string[]> => readdir(at('known')).catch(() => []);

/** The clock moves on, so that files written before are not young any more. */
const later = (): unknown => vi.setSystemTime(Date.now() + 5000);

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['Date'] });
  folder = await mkdtemp(join(tmpdir(), 'potstill-known-'));
  await writeFile(at('a'), 'one');
  await writeFile(at('b'), 'two');
});
afterEach(async () => {
  vi.useRealTimers();
  await rm(folder, { recursive: true });
});

test('the digest is that of the files, one after the other', async () => {
  later();
  expect(await known('a', 'b')).toBe(sha256('onetwo'));
  expect(await known('b', 'a')).toBe(sha256('twoone'));
  expect(await remembered()).toHaveLength(2);
});

test('what is remembered is not read again until the file changes', async () => {
  later();
  expect(await known('a', 'b')).toBe(sha256('onetwo'));
  const [name = ''] = await remembered();
  await writeFile(at(`known/${name}`), `${sha256('remembered')}\n`);
  expect(await known('a', 'b')).toBe(sha256('remembered'));
  // The same size and the same time of modification: the change itself has a time as well.
  const { atime, mtime } = await stat(at('a'));
  await writeFile(at('a'), 'eno');
  await utimes(at('a'), atime, mtime);
  later();
  expect(await known('a', 'b')).toBe(sha256('enotwo'));
});

test('young files, small files and damaged memories are read', async () => {
  expect(await known('a', 'b')).toBe(sha256('onetwo'));
  expect(await remembered()).toEqual([]);
  later();
  expect(await known('a')).toBe(sha256('one'));
  expect(await remembered()).toEqual([]);
  await known('a', 'b');
  const [name = ''] = await remembered();
  await writeFile(at(`known/${name}`), 'nonsense');
  expect(await known('a', 'b')).toBe(sha256('onetwo'));
});

test('a folder that cannot be written costs nothing but time', async () => {
  later();
  await writeFile(at('file'), '');
  expect(await knownSha256([at('a'), at('b')], { folder: at('file/within'), leastBytes: 0 })).toBe(sha256('onetwo'));
});
