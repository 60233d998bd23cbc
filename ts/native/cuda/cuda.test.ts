import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { chooseDevice } from './choose.ts';
import { libraryFolders } from './folders.ts';
import { type CudaProbe, inspectCuda } from './inspect.ts';
import { CUDA_LIBRARIES } from './libraries.ts';
import { whyNoCuda } from './state.ts';

const root = mkdtempSync(join(tmpdir(), 'potstill-cuda-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** A folder with files of these names. */
function folderOf(name: string, files: readonly string[]): string {
  const folder = join(root, name);
  mkdirSync(folder, { recursive: true });
  for (const file of files) writeFileSync(join(folder, file), '');
  return folder;
}

const FILES = CUDA_LIBRARIES.map(({ file }) => file);
const addon = { version: () => '1.2.3', kernelClass: () => 'avx2', hasCuda: () => true };
const card = { name: 'Card', capability: '8.6', totalBytes: 24e9 };
const cannot = (file: string): string => `${file}: cannot open shared object file`;

/** A machine on which CUDA works, but for what a test changes. */
function probe(change: Partial<CudaProbe> = {}): CudaProbe {
  return {
    platform: 'linux-x64-gnu',
    version: '1.2.3',
    places: [{ source: 'package', exists: () => true, load: () => addon }],
    folders: () => [],
    inspectDriver: () => ({ value: { cuda: '13.0', devices: [card, { ...card, name: 'Other' }] } }),
    preload: () => null,
    ...change,
  };
}

/** What loads by path alone, from these folders. */
const onlyIn = (...folders: readonly string[]) => ({
  folders: () => folders.map((path) => ({ path, source: 'CUDA_PATH' })),
  preload: (file: string) => (folders.some((folder) => file.startsWith(folder)) ? null : cannot(file)),
});

describe('a machine on which CUDA works', () => {
  const state = inspectCuda(probe());

  test('gives the addon', () => {
    expect(state).toMatchObject({ problems: [], addon, candidates: [{ backend: 'cuda', loaded: true }] });
  });

  test.each([
    ['auto', 'cuda:0'],
    ['cuda', 'cuda:0'],
    ['cuda:1', 'cuda:1'],
    ['cpu', 'cpu'],
  ] as const)('%s is %s', (name, device) => {
    expect(chooseDevice(name, state)).toEqual({ device });
  });

  test('a number that does not exist is an error that lists those that do', () => {
    expect(() => chooseDevice('cuda:2', state)).toThrow(
      expect.objectContaining({
        ...{ code: 'ERR_CUDA_DEVICE', kind: 'machine', where: 'cuda:2' },
        remedy: 'What is there: cuda:0 (Card), cuda:1 (Other).',
      }),
    );
  });

  test('a device that is too old is an error, and auto takes the CPU', () => {
    const devices = [{ ...card, name: 'Old', capability: '7.5' }];
    const old = inspectCuda(probe({ inspectDriver: () => ({ value: { cuda: '13.0', devices } }) }));
    expect(() => chooseDevice('cuda', old)).toThrow(expect.objectContaining({ what: expect.stringContaining('7.5') }));
    expect(chooseDevice('auto', old)).toMatchObject({ device: 'cpu', note: expect.stringContaining('Old') });
  });
});

const failed = { error: { code: 'ERR_CUDA_DRIVER', kind: 'machine' as const, what: cannot('libcuda.so.1') } };

test.each([
  ['no driver', probe({ inspectDriver: () => failed }), 'ERR_CUDA_DRIVER', 'libcuda.so.1', 'driver 580 or newer'],
  [
    'an old driver',
    probe({ inspectDriver: () => ({ value: { cuda: '12.8', devices: [card] } }) }),
    ...['ERR_CUDA_DRIVER_OLD', 'CUDA 12.8 at most', 'Update'],
  ],
  [
    'a driver without a device',
    probe({
      inspectDriver: () => ({
        value: { cuda: '13.0', devices: [], reason: 'cuInit failed: CUDA_ERROR_NO_DEVICE (100)' },
      }),
    }),
    ...['ERR_CUDA_DEVICE', 'CUDA_ERROR_NO_DEVICE', 'nvidia-smi'],
  ],
  [
    'missing libraries',
    probe({ preload: (file) => (/curand|nvrtc/.test(file) ? cannot(file) : null) }),
    ...[
      'ERR_CUDA_LIBRARY',
      'libnvrtc.so.13, libcurand.so.10',
      'pip install "nvidia-cuda-nvrtc==13.*" "nvidia-curand==10.4.*"',
    ],
  ],
  [
    'no addon',
    probe({ places: [{ source: 'package', exists: () => false, load: () => cannot('it') }] }),
    ...['ERR_NATIVE_MISSING', 'is not installed', 'npm install @potstill/native-cuda13-linux-x64-gnu@1.2.3'],
  ],
  [
    'an addon of another version',
    probe({ places: [{ source: 'package', exists: () => true, load: () => ({ ...addon, version: () => '1.0.0' }) }] }),
    ...['ERR_NATIVE_VERSION', 'it is version 1.0.0', 'npm install'],
  ],
  [
    "the CPU's addon in its place",
    probe({ places: [{ source: 'package', exists: () => true, load: () => ({ ...addon, hasCuda: () => false }) }] }),
    ...['ERR_NATIVE_MISSING', 'without CUDA', 'npm install'],
  ],
  ['another platform', probe({ platform: 'darwin-arm64' }), 'ERR_CUDA_PLATFORM', 'darwin-arm64', '--device cpu'],
])('%s is an error of the machine for who named the device, and auto says why', (_, machine, code, what, remedy) => {
  const state = inspectCuda(machine);
  expect(state.addon).toBeUndefined();
  expect(state.candidates.every(({ loaded, reason }) => !loaded && reason !== undefined)).toBe(true);
  for (const name of ['cuda', 'cuda:0', 'cuda:7'] as const) {
    const error = expect.objectContaining({
      ...{ code, kind: 'machine' },
      what: expect.stringContaining(what),
      remedy: expect.stringContaining(remedy),
    });
    expect(() => chooseDevice(name, state)).toThrow(error);
  }
  const { device, note } = chooseDevice('auto', state);
  expect(device).toBe('cpu');
  expect(note).toContain(what);
  expect(chooseDevice('cpu', state)).toEqual({ device: 'cpu' });
});

test('all that is missing is told at once', () => {
  const state = inspectCuda(
    probe({
      preload: (file) => (file.includes('cublas') ? cannot(file) : null),
      places: [{ source: 'package', exists: () => false, load: () => undefined }],
    }),
  );
  expect(() => chooseDevice('cuda', state)).toThrow(
    expect.objectContaining({ remedy: expect.stringMatching(/pip install "nvidia-cublas==13\.\*"`.*npm install/s) }),
  );
});

describe('libraries', () => {
  test('are loaded by path where the loader does not find them, and are said with their place', () => {
    const folder = folderOf('toolkit/lib64', FILES);
    const { libraries, problems } = inspectCuda(probe(onlyIn(folder)));
    expect(problems).toEqual([]);
    expect(libraries[0]).toEqual({
      file: 'libcudart.so.13',
      ...{ found: join(folder, 'libcudart.so.13'), source: 'CUDA_PATH' },
    });
  });

  test('that are there but broken keep the words of the loader', () => {
    const folder = folderOf('broken', FILES);
    const broken = inspectCuda(probe({ ...onlyIn(folder), preload: () => 'invalid ELF header' }));
    expect(broken.problems[0]?.what).toContain(`${join(folder, 'libcudart.so.13')}: invalid ELF header`);
  });

  test('are looked for in toolkits, environments and every Python on the path', () => {
    const toolkits = join(root, 'local');
    for (const name of ['cuda', 'cuda-13.0', 'cuda-12.8', 'lib']) mkdirSync(join(toolkits, name), { recursive: true });
    const packages = (prefix: string): string => join(root, prefix, 'lib', 'python3.12', 'site-packages');
    for (const prefix of ['venv', 'conda', 'python']) mkdirSync(packages(prefix), { recursive: true });
    folderOf('python/bin', ['python3']);
    const env = {
      CUDA_PATH: '/opt/cuda',
      VIRTUAL_ENV: join(root, 'venv'),
      CONDA_PREFIX: join(root, 'conda'),
      PATH: `/nowhere:${join(root, 'python', 'bin')}`,
    };
    const folders = libraryFolders(env, { toolkits }).map(({ path }) => path);
    const wheels = (prefix: string): string => join(packages(prefix), 'nvidia', 'cu13', 'lib');
    expect(folders).toEqual(
      expect.arrayContaining([
        ...['/opt/cuda/lib64', join(toolkits, 'cuda', 'lib64'), join(toolkits, 'cuda-13.0', 'lib64')],
        ...[wheels('venv'), wheels('conda'), wheels('python')],
      ]),
    );
    expect(folders.some((path) => path.includes('cuda-12.8'))).toBe(false);
    expect(folders[0]).toBe('/opt/cuda/lib64');
    expect(libraryFolders({}, { toolkits: join(root, 'none') })).toEqual([]);
  });
});

test('auto looks for CUDA only where something of it lies', () => {
  expect(whyNoCuda({ installed: true, device: false })).toBeUndefined();
  expect(whyNoCuda({ installed: false, device: false })).toMatchObject({ worthSaying: false });
  expect(whyNoCuda({ installed: false, device: true })).toMatchObject({
    worthSaying: true,
    reason: expect.stringContaining('npm install @potstill/native-cuda13'),
  });
});
