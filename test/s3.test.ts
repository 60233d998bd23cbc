import { readdirSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { loadEngine } from '../ts/native/index.ts';
import { BUCKET, S3Server } from './support/s3-server.ts';
import { makeTinyProject, type TinyProject } from './support/tiny-project.ts';

const COMPILING_MS = 900_000;
/** Up to nine programs after one another, each with its retries. */
vi.setConfig({ testTimeout: 300_000 });

let server: S3Server;
let project: TinyProject;
beforeAll(async () => {
  server = await S3Server.start();
  project = await makeTinyProject(await loadEngine());
  const { code, stderr } = await server.potstill(['cache', 'build', project.recipeFile]);
  expect(code, stderr).toBe(0);
}, COMPILING_MS);
afterAll(() => {
  server?.[Symbol.dispose]();
  project?.[Symbol.dispose]();
});

const place = (prefix: string): string => `s3://${BUCKET}/${prefix}`;
const build = (prefix: string, ...words: readonly string[]) =>
  server.potstill(['cache', 'build', project.recipeFile, '--set', `cache.dir=${place(prefix)}`, ...words]);

/** Every file below a folder with its content. */
function contents(folder: string): Map<string, string> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const named = files.map(({ parentPath, name }) => join(parentPath, name));
  return new Map(named.sort().map((file) => [file.slice(folder.length), readFileSync(file).toString('base64')]));
}

describe('a cache at an s3:// location', () => {
  it('is built by parts and sealed, the same to the byte as in a folder', async () => {
    for (const part of ['2/2', '1/2']) {
      const { code, stdout, stderr } = await build('a/parts', '--shard', part);
      expect(code, stderr).toBe(0);
      expect(stdout).toContain(`potstill cache seal ${place('a/parts')}`);
    }
    const sealed = await server.potstill(['cache', 'seal', place('a/parts')]);
    expect(sealed).toMatchObject({ code: 0, stdout: expect.stringContaining('every record once: sealed') });
    expect(contents(server.folder('a/parts'))).toEqual(contents(join(project.folder, 'cache')));
  });

  it('is verified, listed and measured as a folder is', async () => {
    expect((await build('alone')).code).toBe(0);
    for (const command of [['verify'], ['stats'], ['ls']]) {
      const [there, here] = await Promise.all(
        [place('alone'), join(project.folder, 'cache')].map((cache) =>
          server.potstill(['cache', ...command, cache, '--json']),
        ),
      );
      expect(there?.code, there?.stderr).toBe(0);
      expect({ ...JSON.parse(there?.stdout ?? ''), dir: '' }).toEqual({ ...JSON.parse(here?.stdout ?? ''), dir: '' });
    }
    const recomputed = ['--recompute', '3', '--model', join(project.folder, 'first')];
    const { code, stdout } = await server.potstill(['cache', 'verify', place('alone'), ...recomputed, '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ level: 3, verdict: 'ok' });
  });

  it('goes on where a build was interrupted, and replaces what is damaged', async () => {
    const shard = 'teachers/second/shard-00000.safetensors';
    await build('resumed');
    rmSync(join(server.folder('resumed'), 'teachers/second/seal.json'));
    truncateSync(join(server.folder('resumed'), shard), 100);
    const { code, stdout } = await build('resumed', '--json');
    expect(code).toBe(0);
    const { components } = JSON.parse(stdout) as { components: { computed: number; records: number }[] };
    expect(components.map(({ computed }) => computed)).toEqual([0, 0, 0, 64]);
    expect(contents(server.folder('resumed'))).toEqual(contents(join(project.folder, 'cache')));
  });

  it('is trained on', async () => {
    const out = join(project.folder, 'run');
    const words = ['--set', `cache.dir=${place('trained')}`, '--set', `output=${out}`];
    const { code, stderr } = await server.potstill(['train', project.recipeFile, ...words]);
    expect(code, stderr).toBe(0);
    expect(readFileSync(join(out, 'metrics.jsonl'), 'utf8').trim().split('\n')).toHaveLength(2);
  });

  it('damaged, is found so', async () => {
    await build('damaged');
    rmSync(join(server.folder('damaged'), 'latents/shard-00000.safetensors'));
    const { code, stdout } = await server.potstill(['cache', 'verify', place('damaged')]);
    expect(code).toBe(1);
    expect(stdout).toContain('shard-missing');
  });
});

describe('what keeps from it', () => {
  it('is told with its place, its remedy and no secret', async () => {
    const secret = 'not-this-one';
    const { code, stderr, stdout } = await server.potstill(['cache', 'verify', place('a')], {
      AWS_SECRET_ACCESS_KEY: secret,
    });
    expect(code).toBe(2);
    expect(stderr).toContain('the server refuses access (SignatureDoesNotMatch) [ERR_S3_REFUSED]');
    expect(stderr).toContain(`where: ${place('a')}`);
    expect(stderr).toContain('AWS_SECRET_ACCESS_KEY');
    expect(stderr + stdout).not.toContain(secret);
  });

  it.each<[string, string, Record<string, string>, number]>([
    [`s3://${BUCKET}/nothing`, 'ERR_CACHE_MISSING', {}, 2],
    ['s3://elsewhere/a', 'ERR_S3_REFUSED', {}, 2],
    ['s3://caches/../a', 'ERR_S3_LOCATION', {}, 2],
    [`s3://${BUCKET}/a`, 'ERR_S3_ENVIRONMENT', { AWS_ALLOW_HTTP: '' }, 2],
    [`s3://${BUCKET}/a`, 'ERR_S3_UNREACHABLE', { AWS_ENDPOINT_URL: 'http://127.0.0.1:1' }, 3],
  ])('%s: %s', async (cache, expected, others, exitCode) => {
    for (const command of ['verify', 'ls', 'seal']) {
      const { code, stderr } = await server.potstill(['cache', command, cache], others);
      expect(stderr).toContain(`[${expected}]`);
      expect(code).toBe(exitCode);
    }
  });

  it.each([
    ['gc', [place('a')]],
    ['verify', [place('a'), '--backend', 'wasm']],
    ['verify', [place('a'), '--serve']],
  ])('`cache %s` %s works on folders, and says so', async (command, words) => {
    const { code, stderr } = await server.potstill(['cache', command, ...words]);
    expect(code).toBe(2);
    expect(stderr).toContain('[ERR_S3_LOCATION]');
  });
});
