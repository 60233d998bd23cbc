import { join } from 'node:path';
import { expect, test } from 'vitest';
import { filesFixture } from '../../test/support/files-damages.ts';
import { run } from './run.ts';

/** Runs `potstill cache verify …`, and tells of what it prints while it runs. */
function start(...words: readonly string[]): {
  ended: Promise<number>;
  printed: () => Promise<string>;
  err: () => string;
} {
  let [out, err] = ['', ''];
  let heard: (() => void) | undefined;
  const stdout = {
    write: (text: string | Uint8Array) => {
      out += text;
      heard?.();
      return true;
    },
  };
  const stderr = {
    write: (text: string | Uint8Array) => {
      err += text;
      return true;
    },
  };
  const ended = run(['cache', 'verify', ...words], stdout, stderr);
  const printed = async (): Promise<string> => {
    const wrote = new Promise<void>((resolve) => {
      heard = resolve;
    });
    if (out === '') await Promise.race([wrote, ended]);
    return out;
  };
  return { ended, printed, err: () => err };
}

test('serves the page with a cache on it until Ctrl-C', async () => {
  const cache = filesFixture('shared');
  const { ended, printed } = start('--serve', cache, '--json');
  const { url } = JSON.parse(await printed()) as { url: string };
  const { origin, hash } = new URL(url);
  expect(origin).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
  expect(await (await fetch(url)).text()).toContain('Verify a teacher cache');
  const about = await fetch(`${origin}/served/${hash.slice(1)}/about`);
  expect(await about.json()).toEqual({ name: cache });
  process.emit('SIGINT');
  expect(await ended).toBe(0);
  await expect(fetch(url)).rejects.toThrow();
});

test('serves it without a cache, and says where', async () => {
  const { ended, printed } = start('--serve');
  expect(await printed()).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/\nThe page is there, until you press Ctrl-C\.\n$/);
  process.emit('SIGINT');
  expect(await ended).toBe(0);
});

test.each([
  ['no path', [], "missing required argument 'path'"],
  ['a folder that is missing', ['--serve', join(import.meta.dirname, 'nowhere')], 'no such folder'],
  ['an option of the page', ['--serve', '--backend', 'wasm'], '--backend and --serve exclude one another'],
  ['a model', ['--serve', '--model', 'x'], '--model and --serve exclude one another'],
])('refuses %s', async (_, words, what) => {
  const { ended, err } = start(...words);
  expect(await ended).toBe(2);
  expect(err()).toContain(what);
});
