import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildCache } from '../ts/cache/index.ts';
import { CUDA_LIBRARIES } from '../ts/native/cuda/libraries.ts';
import { CUDA_PACKAGE, loadEngine } from '../ts/native/index.ts';
import { platformName } from '../ts/native/platform.ts';
import { packageVersion } from '../ts/version.ts';
import { makeTinyProject } from './support/tiny-project.ts';

/**
 * Machines with an NVIDIA driver, made of a driver and libraries written in C, and a package in place of the addon. Each
 * command runs in a process of its own, in which libc finds what a test puts there.
 */
const root = new URL('..', import.meta.url).pathname;
const fakeDriver = join(root, 'crates/potstill-driver/tests/fake_driver.c');
const compiler = spawnSync('cc', ['--version']).status === 0;
const generated = join(root, 'ts/native/generated');

let folder = '';
const at = (...names: readonly string[]): string => join(folder, ...names);

function compile(source: string, library: string, ...words: readonly string[]): void {
  const { status, stderr } = spawnSync('cc', ['-shared', '-fPIC', ...words, '-o', library, source]);
  expect(status, String(stderr)).toBe(0);
}

describe.runIf(compiler && platformName() === 'linux-x64-gnu')('a machine with an NVIDIA driver', () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'potstill-cuda-'));
    for (const name of ['driver', 'toolkit/lib64', `packages/${CUDA_PACKAGE}`])
      mkdirSync(at(name), { recursive: true });
    compile(fakeDriver, at('driver/libcuda.so.1'));
    writeFileSync(at('empty.c'), 'int potstill_test_library;\n');
    for (const { file } of CUDA_LIBRARIES) compile(at('empty.c'), at('toolkit/lib64', file), `-Wl,-soname,${file}`);
    const description = {
      name: CUDA_PACKAGE,
      version: packageVersion(),
      main: join(root, 'test/support/cuda/fake-addon.cjs'),
    };
    writeFileSync(at('packages', CUDA_PACKAGE, 'package.json'), JSON.stringify(description));
    writeFileSync(
      at('packages', CUDA_PACKAGE, 'index.js'),
      `module.exports = require(${JSON.stringify(description.main)});`,
    );
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** What the machine has; a test takes something away. */
  const machine = () => ({
    PATH: process.env['PATH'],
    HOME: at(),
    LD_LIBRARY_PATH: at('driver'),
    CUDA_PATH: at('toolkit'),
    NODE_PATH: at('packages'),
    POTSTILL_TEST_ADDON: join(generated, 'potstill.linux-x64-gnu.node'),
  });

  function potstill(words: readonly string[], env: Readonly<Record<string, string | undefined>> = machine()) {
    const program = [join(root, 'node_modules/tsx/dist/cli.mjs'), join(root, 'ts/cli/main.ts')];
    const { status, stdout, stderr } = spawnSync(process.execPath, [...program, ...words], { env, encoding: 'utf8' });
    return { code: status, out: stdout, err: stderr };
  }

  const noise = (device: string): string[] => [
    'probe',
    'noise',
    '--seed',
    '1',
    '--shape',
    '4',
    '--device',
    device,
    '--out',
    at('noise.safetensors'),
  ];

  test.each(['auto', 'cuda', 'cuda:1'])('computes on --device %s', (device) => {
    expect(potstill(noise(device))).toMatchObject({ code: 0, err: '' });
    expect(readdirSync(folder)).toContain('noise.safetensors');
    rmSync(at('noise.safetensors'));
  });

  test.each([
    ['no driver', { LD_LIBRARY_PATH: '' }, 'cuda', 'libcuda.so.1', 'driver 580 or newer'],
    ['an old driver', { FAKE_CUDA_VERSION: '12080' }, 'cuda', 'CUDA 12.8 at most', 'Update'],
    ['a driver that cannot start', { FAKE_CUDA_INIT: '100' }, 'cuda', 'CUDA_ERROR_NO_DEVICE (100)', 'nvidia-smi'],
    ['no libraries', { CUDA_PATH: '' }, 'cuda', 'libcublas.so.13', 'pip install'],
    ['no addon', { NODE_PATH: '' }, 'cuda', 'is not installed', `npm install ${CUDA_PACKAGE}@`],
    ['no such device', {}, 'cuda:2', 'there is no such device', 'cuda:0 (Fake One), cuda:1 (Fake Two)'],
  ])('%s: exit code 3 and the remedy, and nothing else computes in its place', (_, change, device, what, remedy) => {
    const { code, out, err } = potstill([...noise(device), '--json'], { ...machine(), ...change });
    expect(code).toBe(3);
    expect(JSON.parse(out).error).toMatchObject({
      kind: 'machine',
      what: expect.stringContaining(what),
      remedy: expect.stringContaining(remedy),
    });
    expect(err).toContain(remedy);
    expect(readdirSync(folder)).not.toContain('noise.safetensors');
  });

  test('auto takes the CPU where a library is missing, and says so', () => {
    const { code, err } = potstill(noise('auto'), { ...machine(), CUDA_PATH: '' });
    expect(code).toBe(0);
    expect(err).toMatch(/^computing on the CPU: CUDA 13's libcudart\.so\.13, .*pip install/);
    rmSync(at('noise.safetensors'));
  });

  test('a cache is recomputed where --device says, or nowhere', async () => {
    const engine = await loadEngine();
    using project = await makeTinyProject(engine);
    await buildCache(await project.recipe(), { engine });
    const [cache, model] = ['cache', 'first'].map((name) => join(project.folder, name));
    const words = ['cache', 'verify', `${cache}`, '--recompute', '2', '--model', `${model}`, '--device'];
    const { code, out } = potstill([...words, 'cuda:1', '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(out).recomputation.components).toMatchObject([{ component: 'teachers/first', wrong: 0 }]);
    expect(potstill([...words, 'cuda:2'])).toMatchObject({ code: 3, err: expect.stringContaining('no such device') });
    expect(potstill([...words, 'cuda', '--backend', 'wasm'])).toMatchObject({
      code: 2,
      err: expect.stringContaining('WASM computes on the CPU'),
    });
    expect(potstill(['cache', 'verify', `${cache}`, '--device', 'cpu'])).toMatchObject({
      code: 2,
      err: expect.stringContaining('nothing is computed'),
    });
  });

  test('too little memory: what is needed, and what is free on the device', () => {
    const words = ['bench', 'unet', '--size', '64', '--mode', 'full', '--device', 'cuda:1'];
    const { code, err } = potstill(words, { ...machine(), FAKE_CUDA_FREE_MIB: '4000' });
    expect(code).toBe(3);
    expect(err).toMatch(/not enough memory: at least 6\.\d+ GB needed .*, 4\.19 GB free on cuda:1/);
  });

  test('doctor shows devices, libraries with their places, and every candidate', () => {
    const { code, out } = potstill(['doctor', '--json']);
    expect(code).toBe(0);
    const { devices, cuda, native, problems } = JSON.parse(out);
    expect(devices.slice(1)).toEqual([
      { id: 'cuda:0', name: 'Fake One', capability: '8.6', totalBytes: 24 * 2 ** 30, freeBytes: 20 * 2 ** 30 },
      { id: 'cuda:1', name: 'Fake Two', capability: '9.0', totalBytes: 141 * 2 ** 30, freeBytes: 100 * 2 ** 30 },
    ]);
    expect(cuda).toMatchObject({ usable: true, driver: '13.2', problems: [] });
    expect(cuda.libraries[0]).toMatchObject({ found: at('toolkit/lib64/libcudart.so.13'), source: 'CUDA_PATH' });
    expect(native.candidates).toContainEqual(
      expect.objectContaining({ backend: 'cuda', source: CUDA_PACKAGE, loaded: true }),
    );
    expect(problems.filter(({ what }: { what: string }) => what.includes('CUDA'))).toEqual([]);
    const text = potstill(['doctor']).out;
    expect(text).toContain('device       cuda:1: Fake Two, compute capability 9.0, 107 GB free of 151 GB');
  });

  test('doctor says what is missing and which command brings it', () => {
    rmSync(at('toolkit/lib64/libcurand.so.10'));
    const { out } = potstill(['doctor']);
    expect(out).toContain('libcurand.so.10: missing');
    expect(out).toMatch(/problem {6}CUDA: .*libcurand\.so\.10/);
    expect(out).toContain('pip install "nvidia-curand==10.4.*"');
    expect(out).toMatch(new RegExp(`native cuda +${CUDA_PACKAGE}: not tried: .*libcurand`));
    compile(at('empty.c'), at('toolkit/lib64/libcurand.so.10'));
  });
});

test('without an NVIDIA driver, doctor says so and calls it no problem', () => {
  const program = [join(root, 'node_modules/tsx/dist/cli.mjs'), join(root, 'ts/cli/main.ts'), 'doctor', '--json'];
  const { stdout } = spawnSync(process.execPath, program, { encoding: 'utf8' });
  const { cuda, problems } = JSON.parse(stdout);
  if (cuda.usable) return; // a machine with a GPU
  expect(cuda.problems.length).toBeGreaterThan(0);
  expect(problems.every(({ what }: { what: string }) => !what.startsWith('CUDA'))).toBe(true);
});
