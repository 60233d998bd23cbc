import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { isStamped, stamp } from './fingerprint.mjs';
import { ROOT, TOOLS } from './paths.mjs';
import { RequirementError } from './requirements.mjs';
import { ask, CommandError, environment, execute } from './shell.mjs';

/** Pinned: cudarc refuses toolkits newer than it knows, and what is built needs a driver of this version or later. */
const WHEELS = [
  'nvidia-cuda-nvcc==13.0.88',
  'nvidia-cuda-crt==13.0.88',
  'nvidia-nvvm==13.0.88',
  'nvidia-cuda-runtime==13.0.96',
  'nvidia-cuda-cccl==13.0.85',
];
/** Where the wheels and the stubs lie. */
const FOLDER = join(TOOLS, 'cuda');
/** The toolkit, as the wheels lay it out. */
export const CUDA_HOME = join(FOLDER, 'nvidia', 'cu13');
const STUBS = join(FOLDER, 'stubs');
/** Compiled code with CUDA: its dependencies have other features, and one folder for both would be built anew each time. */
export const CUDA_TARGET = join(ROOT, 'target', 'cuda');

/**
 * Libraries that are linked with and not carried: the driver has one, users' toolkits or wheels the others. Their stubs
 * define what cudarc declares of them, so that the linker finds every name. None of it ever runs but cuRAND's, where the GPU
 * suite finds no other: candle opens a generator of random numbers, from which nothing here draws.
 */
const LIBRARIES = [
  { name: 'cuda', soname: 'libcuda.so.1', bindings: 'driver' },
  { name: 'cublas', soname: 'libcublas.so.13', bindings: 'cublas' },
  { name: 'cublasLt', soname: 'libcublasLt.so.13', bindings: 'cublaslt' },
  { name: 'curand', soname: 'libcurand.so.10', bindings: 'curand' },
  { name: 'nvrtc', soname: 'libnvrtc.so.13', bindings: 'nvrtc' },
];

/** A function of a stub: all is well. */
const stub = (symbol) => `int ${symbol}(void) { return 0; }\n`;

/**
 * What is built without other words: everything with CUDA, together. Cargo unites the features of what it builds at once, and
 * compiles candle's kernels anew, for many minutes, when others come out.
 */
export const DEFAULT_WORDS = [
  'build',
  '--release',
  ...['-p', 'potstill-node', '-p', 'potstill-gpu-suite'],
  ...['--features', 'potstill-node/cuda,potstill-gpu-suite/cuda'],
];
/** Where cargo puts it. */
export const CUDA_BUILT = join(CUDA_TARGET, 'x86_64-unknown-linux-gnu', 'release');

/** Brings the toolkit and makes the stubs, unless that was done. */
export async function installToolkit() {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new RequirementError('CUDA builds are made on Linux with an x86-64 processor.');
  const wheels = WHEELS.join(' ');
  if (!existsSync(join(CUDA_HOME, 'bin', 'nvcc')) || !isStamped('cuda-wheels', wheels)) {
    process.stderr.write('bringing nvcc (Python wheels)\n');
    await installWheels();
    stamp('cuda-wheels', wheels);
  }
  const cudarc = await cudarcPackage();
  const stubs = `${cudarc.id} ${stub('x')}`;
  if (!existsSync(STUBS) || !isStamped('cuda-stubs', stubs)) {
    await makeStubs(dirname(cudarc.manifest_path));
    stamp('cuda-stubs', stubs);
  }
}

async function installWheels() {
  if (ask('python3', ['-m', 'pip', '--version']) === undefined) {
    throw new RequirementError(
      'Python with pip was not found (`python3 -m pip` fails), which brings nvcc. On Debian and Ubuntu: `apt install python3-pip`.',
    );
  }
  rmSync(FOLDER, { recursive: true, force: true });
  const words = ['-m', 'pip', 'install', '--no-deps', '--only-binary', ':all:', '--disable-pip-version-check'];
  await execute('python3', [...words, '--target', FOLDER, ...WHEELS]);
}

/** cudarc as Cargo.lock names it; cargo downloads it when it has not yet. */
async function cudarcPackage() {
  const words = ['metadata', '--format-version', '1', '--features', 'potstill-engine/cuda', '--filter-platform'];
  const output = ask('cargo', [...words, 'x86_64-unknown-linux-gnu']);
  if (output === undefined) throw new CommandError('cargo', words, 'it printed no metadata');
  const found = JSON.parse(output).packages.find(({ name }) => name === 'cudarc');
  if (found === undefined) throw new CommandError('cargo', words, 'there is no cudarc among the packages');
  return found;
}

async function makeStubs(cudarc) {
  rmSync(STUBS, { recursive: true, force: true });
  mkdirSync(STUBS, { recursive: true });
  for (const { name, soname, bindings } of LIBRARIES) {
    const declared = readFileSync(join(cudarc, 'src', bindings, 'sys', 'mod.rs'), 'utf8');
    const names = new Set([...declared.matchAll(/\bfn ((?:cu|nvrtc)\w+)\s*\(/g)].map(([, symbol]) => symbol));
    if (names.size === 0) throw new Error(`cudarc's bindings of ${bindings} are written in another way than before`);
    const source = join(STUBS, `${name}.c`);
    writeFileSync(source, [...names].map(stub).join(''));
    await execute('cc', ['-shared', '-nostdlib', `-Wl,-soname,${soname}`, '-o', join(STUBS, soname), source]);
    symlinkSync(soname, join(STUBS, `lib${name}.so`));
  }
  // The wheel has the library itself, without the name that linkers look for.
  symlinkSync(join(CUDA_HOME, 'lib', 'libcudart.so.13'), join(STUBS, 'libcudart.so'));
}

/** The environment in which cargo, nvcc and the linker find all this. */
export function cudaEnvironment() {
  const own = environment();
  return {
    ...own,
    CUDA_HOME,
    CUDA_PATH: CUDA_HOME,
    // For candle's kernels: PTX of 8.0 runs on all later cards, 9.0 would become Hopper's alone.
    CUDA_COMPUTE_CAP: '80',
    PATH: [join(CUDA_HOME, 'bin'), own.PATH].join(delimiter),
    LIBRARY_PATH: [STUBS, process.env.LIBRARY_PATH].filter(Boolean).join(delimiter),
    CARGO_TARGET_DIR: CUDA_TARGET,
    CARGO_BUILD_TARGET: 'x86_64-unknown-linux-gnu',
  };
}

/** Runs cargo with CUDA, its output as it comes; gives its exit code. */
export function cargoWithCuda(words) {
  return new Promise((resolve, reject) => {
    const child = spawn('cargo', words, { cwd: ROOT, env: cudaEnvironment(), stdio: 'inherit' });
    child.on('error', (cause) => reject(new CommandError('cargo', words, String(cause.message))));
    child.on('close', (code) => resolve(code ?? 1));
  });
}
