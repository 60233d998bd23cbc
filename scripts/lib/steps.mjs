import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { buildTypeScript } from './build-ts.mjs';
import { fingerprint, isStamped, stamp } from './fingerprint.mjs';
import { ADDON, DIST, ROOT, TOOLS, WASM, WASM_COMPUTE } from './paths.mjs';
import { RequirementError, rustVersion, TESTED_RUST } from './requirements.mjs';
import { ask, CommandError, execute } from './shell.mjs';

/** Pinned: wasm-pack wants exactly the wasm-bindgen that Cargo.lock names. */
const WASM_PACK = '0.15.1';
const WASM_BINDGEN = '0.2.130';
const WASM_TARGET = 'wasm32-unknown-unknown';

const RUST_INPUTS = ['Cargo.toml', 'Cargo.lock', '.cargo', 'package.json', 'package-lock.json'];
const TS_INPUTS = [
  'ts',
  'tsconfig.json',
  'tsconfig.base.json',
  'package.json',
  'package-lock.json',
  'scripts/lib/build-ts.mjs',
];

/** @typedef {(line: string) => void} Show */
/** @typedef {{ id: string, label: string, seconds: number, isDone: () => boolean, run: (show: Show) => Promise<void> }} Step */

/** A step that is done when its inputs are those of the last time and its output is there. */
function stamped(step, print, output) {
  return {
    ...step,
    isDone: () => existsSync(output) && isStamped(step.id, print()),
    run: async (show) => {
      const before = print(); // what was compiled, even if a file is edited meanwhile
      await step.run(show);
      stamp(step.id, before);
    },
  };
}

const compilerVersion = () => `${rustVersion()} `;

/** The set-up, in order. Seconds: measured on 2 cores with nothing cached. @type {readonly Step[]} */
export const STEPS = [
  {
    id: 'npm',
    label: 'packages (npm ci)',
    seconds: 25,
    isDone: packagesAreInstalled,
    run: async () => {
      await execute('npm', ['ci', '--no-audit', '--no-fund']);
    },
  },
  {
    id: 'rust',
    label: `Rust ${TESTED_RUST} (rustup)`,
    seconds: 20,
    isDone: () => rustVersion() !== undefined,
    run: async () => {
      const parts = ['--profile', 'minimal', '--component', 'rustfmt', '--component', 'clippy', '--no-self-update'];
      await execute('rustup', ['toolchain', 'install', TESTED_RUST, ...parts]);
      await execute('rustup', ['default', TESTED_RUST]);
    },
  },
  {
    id: 'wasm-target',
    label: `Rust target ${WASM_TARGET}`,
    seconds: 5,
    isDone: () => {
      const libraries = ask('rustc', ['--print', 'target-libdir', '--target', WASM_TARGET]);
      return libraries !== undefined && existsSync(libraries);
    },
    run: async () => {
      if (ask('rustup', ['--version']) === undefined) {
        throw new RequirementError(
          `This Rust has no ${WASM_TARGET}, and there is no rustup to add it with. Install Rust from https://rustup.rs.`,
        );
      }
      await execute('rustup', ['target', 'add', WASM_TARGET]);
    },
  },
  tool('wasm-bindgen-cli', 'wasm-bindgen', WASM_BINDGEN, 150),
  tool('wasm-pack', 'wasm-pack', WASM_PACK, 150),
  stamped(
    { id: 'addon', label: 'native addon (napi build)', seconds: 330, run: buildAddon },
    () =>
      compilerVersion() + fingerprint([...RUST_INPUTS, 'crates'], (path) => !path.startsWith('crates/potstill-wasm/')),
    ADDON,
  ),
  stamped(
    {
      id: 'wasm',
      label: 'WASM module (wasm-pack)',
      seconds: 75,
      run: (show) => buildWasm(show, WASM, 'potstill_wasm'),
    },
    () =>
      compilerVersion() +
      fingerprint([...RUST_INPUTS, ...['wasm', 'cache', 'io', 'noise'].map((room) => `crates/potstill-${room}`)]),
    WASM,
  ),
  stamped(
    {
      id: 'wasm-compute',
      label: 'WASM module that computes (wasm-pack)',
      seconds: 90,
      run: (show) => buildWasm(show, WASM_COMPUTE, 'potstill_compute', 'recompute'),
    },
    () =>
      compilerVersion() +
      fingerprint([
        ...RUST_INPUTS,
        ...['wasm', 'cache', 'io', 'noise', 'engine', 'models'].map((room) => `crates/potstill-${room}`),
      ]),
    WASM_COMPUTE,
  ),
  stamped(
    { id: 'typescript', label: 'TypeScript (tsc)', seconds: 14, run: async () => buildTypeScript() },
    () => fingerprint(TS_INPUTS, (path) => !path.endsWith('.test.ts') && !path.endsWith('.node')),
    join(DIST, 'cli', 'main.js'),
  ),
];

/** Does node_modules hold what the lock file names? Packages of other platforms are left out by npm. */
function packagesAreInstalled() {
  const installed = join(ROOT, 'node_modules', '.package-lock.json');
  if (!existsSync(installed)) return false;
  const { packages: wanted } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8'));
  const { packages: found } = JSON.parse(readFileSync(installed, 'utf8'));
  return Object.entries(wanted).every(([path, { version, optional }]) => {
    if (path === '') return true;
    return found[path] === undefined ? optional === true : found[path].version === version;
  });
}

function tool(crate, binary, version, seconds) {
  const path = join(TOOLS, 'bin', binary);
  return {
    id: crate,
    label: `${crate} ${version} (cargo install)`,
    seconds,
    isDone: () => existsSync(path) && ask(path, ['--version'])?.split(' ')[1] === version,
    run: async (show) => {
      const words = [
        'install',
        crate,
        '--version',
        version,
        '--root',
        TOOLS,
        '--target-dir',
        join(ROOT, 'target', 'tools-build'),
      ];
      try {
        await execute('cargo', [...words, '--locked'], show);
      } catch (error) {
        // Its lock file may name a version that was withdrawn or that a mirror lacks: newer dependencies do as well.
        if (!(error instanceof CommandError) || !error.message.includes('failed to select a version')) throw error;
        process.stderr.write(
          `\n${crate} ${version}: the versions of its lock file cannot be had; taking compatible ones\n`,
        );
        await execute('cargo', words, show);
      }
    },
  };
}

async function buildAddon(show) {
  const out = join(ROOT, 'target', 'napi');
  rmSync(out, { recursive: true, force: true });
  const manifest = join('crates', 'potstill-node', 'Cargo.toml');
  const words = ['build', '--manifest-path', manifest, '--release', '--platform', '--no-js', '--dts', 'binding.d.ts'];
  await execute('napi', [...words, '--output-dir', out], show);
  replaceFiles(out, ADDON);
}

/** @param {...string} features cargo's */
async function buildWasm(show, to, name, ...features) {
  const out = join(ROOT, 'target', 'wasm-pack');
  rmSync(out, { recursive: true, force: true });
  const words = ['build', join('crates', 'potstill-wasm'), '--release', '--target', 'web', '--out-dir', out];
  // Without --no-gitignore wasm-pack writes a .gitignore of "*", and `npm pack` would leave the module out.
  // Of the large module wasm-opt takes longer than everything before it, and makes nothing faster: engines compile the
  // kernels as rustc wrote them.
  const enabled = features.length === 0 ? [] : ['--no-opt', '--', '--features', features.join(',')];
  await execute('wasm-pack', [...words, '--out-name', name, '--no-pack', '--no-gitignore', ...enabled], show);
  replaceFiles(out, to);
}

/** Renames every file into place: a process that has the old addon mapped keeps it. */
function replaceFiles(from, to) {
  mkdirSync(to, { recursive: true });
  const names = readdirSync(from);
  for (const name of names) renameSync(join(from, name), join(to, name));
  for (const name of readdirSync(to)) {
    if (!names.includes(name)) rmSync(join(to, name), { recursive: true });
  }
}
