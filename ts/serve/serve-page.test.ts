import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SERVED_MAX_READ } from './protocol.ts';
import { type PageServer, servePage } from './serve-page.ts';

let parent: string;
let server: PageServer;
let base: string;

beforeAll(async () => {
  parent = mkdtempSync(join(tmpdir(), 'potstill-serve-'));
  const cache = join(parent, 'cache');
  mkdirSync(join(cache, 'text'), { recursive: true });
  writeFileSync(join(cache, 'text/plan.json'), '{"a":1}');
  writeFileSync(join(parent, 'secret.txt'), 'secret');
  symlinkSync('../../secret.txt', join(cache, 'text/link'));
  server = await servePage({ cache });
  const { origin, hash } = new URL(server.url);
  base = `${origin}/served/${hash.slice(1)}/`;
});
afterAll(async () => {
  await server.close();
  rmSync(parent, { recursive: true, force: true });
});

const ask = async (address: string): Promise<[status: number, text: string]> => {
  const response = await fetch(address);
  return [response.status, await response.text()];
};

describe('servePage', () => {
  it('serves the page with a policy that lets it ask nobody else', async () => {
    const response = await fetch(new URL('/', server.url));
    expect(response.headers.get('content-type')).toBe('text/html; charset=utf-8');
    expect(response.headers.get('content-security-policy')).toContain("default-src 'none'");
    expect(response.headers.get('x-content-type-options')).toBe('nosniff');
    for (const [path, type] of [
      ['page/main.js', 'text/javascript; charset=utf-8'],
      ['style.css', 'text/css; charset=utf-8'],
      ['native/wasm/potstill_wasm_bg.wasm', 'application/wasm'],
      ['native/wasm-compute/potstill_compute_bg.wasm', 'application/wasm'],
    ]) {
      expect((await fetch(new URL(`/${path}`, server.url))).headers.get('content-type')).toBe(type);
    }
  });

  it("answers for the cache's files, in ranges", async () => {
    expect(JSON.parse((await ask(`${base}about`))[1])).toEqual({ name: join(parent, 'cache') });
    expect(await ask(`${base}list`)).toEqual([200, '["text/link","text/plan.json"]']);
    expect(await ask(`${base}size?path=text/plan.json`)).toEqual([200, '7']);
    expect(await ask(`${base}read?path=text/plan.json&offset=1&length=3`)).toEqual([200, '"a"']);
  });

  it.each([
    ['a file that is missing', 'read?path=text/other&offset=0&length=1', 422, 'missing'],
    ['a link', 'read?path=text/link&offset=0&length=1', 422, 'link'],
    ['a way out', 'read?path=../secret.txt&offset=0&length=1', 422, 'not a path within a cache'],
    ['more than there is', 'read?path=text/plan.json&offset=0&length=8', 422, 'too-short'],
    ['too much at once', `read?path=text/plan.json&offset=0&length=${SERVED_MAX_READ + 1}`, 400, ''],
    ['half a byte', 'read?path=text/plan.json&offset=0.5&length=1', 400, ''],
    ['another question', 'write?path=text/plan.json', 404, ''],
  ])('refuses %s', async (_, question, status, what) => {
    const [answered, text] = await ask(base + question);
    expect(answered).toBe(status);
    expect(text).toContain(what);
    expect(text).not.toContain('secret"');
  });

  it.each([
    '/served/',
    '/served/0123456789abcdef0123456789abcdef/list',
    '/../package.json',
    '/..%2fpackage.json',
    '/page',
  ])('has nothing at %s', async (path) => {
    const [status] = await new Promise<[number]>((resolve) => {
      const { hostname, port } = new URL(server.url);
      // As it stands: fetch would tidy it.
      request({ hostname, port, path }, (response) => resolve([response.resume().statusCode ?? 0])).end();
    });
    expect(status).toBe(404);
  });

  it('answers nobody who calls it by another name, and no other method', async () => {
    const { hostname, port } = new URL(server.url);
    const status = (options: object): Promise<number> =>
      new Promise((resolve) => {
        request({ hostname, port, path: '/', ...options }, (response) =>
          resolve(response.resume().statusCode ?? 0),
        ).end();
      });
    expect(await status({ headers: { Host: `evil.example:${port}` } })).toBe(403);
    expect(await status({ method: 'POST' })).toBe(405);
    expect(await status({})).toBe(200);
  });
});
