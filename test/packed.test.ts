import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packAll } from '../scripts/lib/pack.mjs';
import { execute, type Outcome } from './support/execute.ts';
import { filesFixture } from './support/files-damages.ts';

const ROOT = join(import.meta.dirname, '..');
/** Packing compresses the demo's weights, installing unpacks them. */
const INSTALL_MS = 300_000;

let folder = '';
let tarballs: string[] = [];

/** The installed command, as a user calls it. */
const potstill = (...words: string[]): Promise<Outcome> =>
  execute('npx', ['--no-install', 'potstill', ...words], folder);

async function readJson(...path: string[]): Promise<Record<string, unknown>> {
  return JSON.parse(await readFile(join(...path), 'utf8'));
}

/**
 * The tarballs of what potstill depends on, and of what that depends on, out of node_modules: given to npm beside
 * potstill's own, they satisfy its dependencies, so that nothing is asked of a registry.
 */
async function packDependencies(into: string): Promise<string[]> {
  const names = new Set<string>();
  const add = async (...folder: string[]): Promise<void> => {
    const { dependencies = {} } = await readJson(ROOT, ...folder, 'package.json');
    for (const name of Object.keys(dependencies as object)) {
      if (names.has(name)) continue;
      names.add(name);
      await add('node_modules', name);
    }
  };
  await add();
  const packed: string[] = [];
  for (const name of names) {
    const { stdout, stderr, code } = await execute(
      'npm',
      ['pack', join(ROOT, 'node_modules', name), '--json', '--silent', '--pack-destination', into],
      ROOT,
    );
    expect(code, stderr).toBe(0);
    const [{ filename }] = JSON.parse(stdout) as [{ filename: string }];
    packed.push(join(into, filename));
  }
  return packed;
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'potstill-packed-'));
  tarballs = await packAll();
  const dependencies = await packDependencies(folder);
  await writeFile(join(folder, 'package.json'), '{ "name": "user", "private": true }');
  const words = ['install', '--offline', '--ignore-scripts', '--no-audit', '--no-fund', ...tarballs, ...dependencies];
  const { code, stderr } = await execute('npm', words, folder, INSTALL_MS);
  expect(code, stderr).toBe(0);
}, INSTALL_MS);

afterAll(() => rm(folder, { recursive: true, force: true }));

describe('the tarballs', () => {
  test('are potstill, the native package of this platform, and the demo', () => {
    expect(
      tarballs.map((path) =>
        path
          .split('/')
          .at(-1)
          ?.replace(/-\d.*$/, ''),
      ),
    ).toEqual(['potstill', expect.stringMatching(/^potstill-native-/), 'potstill-demo']);
  });

  test('hold the program, the schema, the WASM module and the licences, and no tests, sources or addon', async () => {
    const root = join(folder, 'node_modules', 'potstill');
    const files = await readdir(root, { recursive: true });
    for (const wanted of [
      'dist/cli/main.js',
      'dist/index.d.ts',
      'dist/native/wasm/potstill_wasm_bg.wasm',
      'dist/native/wasm-compute/potstill_compute_bg.wasm',
      'dist/verify-page/index.html',
      'dist/verify-page/page/worker.js',
      'dist/verify-page/native/wasm/potstill_wasm_bg.wasm',
      'dist/verify-page/native/wasm-compute/potstill_compute_bg.wasm',
      'schema/recipe.schema.json',
      'README.md',
      'LICENSE-MIT',
      'LICENSE-APACHE',
    ]) {
      expect(files).toContain(wanted);
    }
    expect(files.filter((file) => /\.test\.|\.node$|tsbuildinfo|^ts$/.test(file))).toEqual([]);
  });

  test('name the native package by exact version and need no install script', async () => {
    const description = await readJson(folder, 'node_modules', 'potstill', 'package.json');
    const natives = description['optionalDependencies'] as Record<string, string>;
    expect(Object.values(natives)).toEqual([description['version']]);
    expect(description).not.toHaveProperty('scripts');
    expect(description).not.toHaveProperty('devDependencies');
    for (const name of await readdir(join(folder, 'node_modules', '@potstill'))) {
      expect(await readJson(folder, 'node_modules', '@potstill', name, 'package.json')).not.toHaveProperty('scripts');
    }
  });
});

describe('the installed command', () => {
  test('explains itself', async () => {
    const { code, stdout, stderr } = await potstill('--help');
    expect(code, stderr).toBe(0);
    expect(stdout).toContain('Usage: potstill');
  });

  test('finds its native package and WASM module', async () => {
    const { code, stdout, stderr } = await potstill('doctor', '--json');
    expect(code, stderr).toBe(0);
    const report = JSON.parse(stdout);
    expect(report.native.loaded).toMatch(/@potstill\/native-/);
    expect(report.wasm.present).toBe(true);
    expect(report.problems).toEqual([]);
  });

  test('checks a recipe', async () => {
    const example = join(ROOT, 'configs', 'examples', 'denoise.json');
    expect(await potstill('recipe', 'check', example)).toMatchObject({ code: 0 });
    await writeFile(join(folder, 'bad.json'), (await readFile(example, 'utf8')).replace('"steps"', '"stpes"'));
    const { code, stderr } = await potstill('recipe', 'check', 'bad.json');
    expect(code).toBe(2);
    expect(stderr).toContain('Did you mean "steps"?');
  });

  test('verifies in WASM, on a thread of its own', async () => {
    await mkdir(join(folder, 'empty'), { recursive: true });
    const { code, stderr } = await potstill('cache', 'verify', 'empty', '--backend', 'wasm');
    expect(code).toBe(2);
    expect(stderr).toContain('there is no cache here');
  });

  test('verifies in WASM where there is no native package, without being told to, with the same report', async () => {
    const verify = ['cache', 'verify', filesFixture('shared'), '--json'];
    const native = await potstill(...verify);
    expect(native.code, native.stderr).toBe(0);
    const packages = join(folder, 'node_modules', '@potstill');
    const away = join(folder, 'away');
    await rename(packages, away);
    try {
      expect(JSON.parse((await potstill('doctor', '--json')).stdout).native.loaded).toBeNull();
      expect(await potstill(...verify)).toMatchObject({ code: 0, stdout: native.stdout });
      const refused = await potstill(...verify, '--backend', 'native');
      expect(refused.code).toBe(3);
      expect(refused.stderr).toContain('ERR_NATIVE_MISSING');
    } finally {
      await rename(away, packages);
    }
  });

  test('computes', async () => {
    const words = ['--seed', '1', '--shape', '4,8,8', '--generator', 'philox', '--out', 'noise.safetensors'];
    const { code, stderr } = await potstill('probe', 'noise', ...words);
    expect(code, stderr).toBe(0);
    const bytes = await readFile(join(folder, 'noise.safetensors'));
    const header = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE())).toString('utf8'));
    expect(header.noise).toMatchObject({ dtype: 'F32', shape: [4, 8, 8] });
  });
});

test('the CUDA addon, once built, has a package of its own that nobody gets unasked', {
  timeout: INSTALL_MS,
}, async () => {
  const platform = 'linux-x64-gnu';
  const addons = join(folder, 'addons');
  await mkdir(addons);
  for (const name of ['potstill', 'potstill-cuda']) await writeFile(join(addons, `${name}.${platform}.node`), name);
  const packed = await packAll({ addons });
  const description = async (prefix: string): Promise<Record<string, unknown>> => {
    const tarball = packed.find((path) => path.split('/').at(-1)?.startsWith(prefix)) ?? '';
    const { stdout } = await execute('tar', ['-xzOf', tarball, 'package/package.json'], folder);
    return JSON.parse(stdout);
  };
  const cuda = await description('potstill-native-cuda13-');
  const name = `@potstill/native-cuda13-${platform}`;
  const { version } = cuda;
  expect(cuda).toMatchObject({ name, os: ['linux'], cpu: ['x64'], libc: ['glibc'] });
  expect(cuda).not.toHaveProperty('scripts');
  expect(cuda['files']).toContain(`potstill-cuda.${platform}.node`);
  const main = await description('potstill-0');
  expect(main['optionalDependencies']).toEqual({ [`@potstill/native-${platform}`]: version });
  expect(main).toMatchObject({
    peerDependencies: { [name]: version },
    peerDependenciesMeta: { [name]: { optional: true } },
  });
  const readme = await execute(
    'tar',
    ['-xzOf', packed.find((path) => path.includes('cuda13')) ?? '', 'package/README.md'],
    folder,
  );
  expect(readme.stdout).toContain(`npm install ${name}@${version}`);
});
