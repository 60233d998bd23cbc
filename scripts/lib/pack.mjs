import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { ADDON, DIST, ROOT } from './paths.mjs';
import { execute } from './shell.mjs';

/** Stages and tarballs of the last packing. */
const PACK = join(ROOT, 'target', 'pack');
const LICENSES = ['LICENSE-MIT', 'LICENSE-APACHE'];

const readJson = (file) => JSON.parse(readFileSync(file, 'utf8'));
const writeJson = (file, value) => writeFileSync(file, `${JSON.stringify(value, null, 2)}\n`);

/** The CPU's addons come with potstill; CUDA's, ten times as large, is installed by choice. */
const CPU = { folder: 'npm', words: [], note: '' };
const CUDA = {
  folder: 'npm-cuda',
  words: ['--config-path', 'napi.cuda.json'],
  note: `
Computes on NVIDIA's devices of compute capability 8.0 and newer (Ampere, 2020). Beside potstill itself:

    npm install PACKAGE@VERSION
    npx potstill doctor

It needs NVIDIA's driver 580 or newer and the libraries of CUDA 13, which are looked for where the system's loader looks, in
CUDA_PATH, in /usr/local/cuda and in the wheels of the Pythons on PATH; \`doctor\` says which are missing and which command
brings them, such as \`pip install "nvidia-cublas==13.*"\`. There is no install script, and no toolkit is needed.
`,
};

/**
 * Packs what is built: `potstill`, the native packages of this platform and `@potstill/demo`. The root's package.json
 * names no native package, for `npm ci` must work before any is published; the packed one does, by exact version.
 *
 * @param {{ addons?: string }} options where the compiled addons lie, for tests
 * @returns {Promise<string[]>} the tarballs' paths
 */
export async function packAll({ addons = ADDON } = {}) {
  rmSync(PACK, { recursive: true, force: true });
  const root = readJson(join(ROOT, 'package.json'));
  const natives = await stageNatives(root.version, addons, CPU);
  const cuda = await stageNatives(root.version, addons, CUDA);
  const main = stageMain(root, natives, cuda);
  const folders = [main, ...natives, ...cuda, stageDemo(root.version)];
  const tarballs = [];
  for (const folder of folders) tarballs.push(await npmPack(folder));
  return tarballs;
}

function stageMain(root, natives, cuda) {
  const stage = join(PACK, 'potstill');
  mkdirSync(stage, { recursive: true });
  cpSync(DIST, join(stage, 'dist'), { recursive: true });
  cpSync(join(ROOT, 'schema'), join(stage, 'schema'), { recursive: true });
  for (const file of ['README.md', ...LICENSES]) cpSync(join(ROOT, file), join(stage, file));
  const { scripts: _scripts, devDependencies: _devDependencies, napi: _napi, ...published } = root;
  const versions = (folders) =>
    Object.fromEntries(
      folders.map((folder) => readJson(join(folder, 'package.json'))).map(({ name, version }) => [name, version]),
    );
  published.optionalDependencies = versions(natives);
  if (cuda.length > 0) {
    // npm then refuses one of another version, and installs none unasked.
    published.peerDependencies = versions(cuda);
    published.peerDependenciesMeta = Object.fromEntries(
      Object.keys(published.peerDependencies).map((name) => [name, { optional: true }]),
    );
  }
  writeJson(join(stage, 'package.json'), published);
  return stage;
}

/** A folder for each addon that is built; napi's CLI knows which operating system, CPU and libc it is for. */
async function stageNatives(version, addons, { folder, words, note }) {
  const npm = join(PACK, folder);
  await execute('napi', ['create-npm-dirs', ...words, '--npm-dir', relative(ROOT, npm)]);
  const built = readdirSync(addons).filter((name) => name.endsWith('.node'));
  const stages = [];
  for (const platform of readdirSync(npm)) {
    const stage = join(npm, platform);
    const description = readJson(join(stage, 'package.json'));
    if (!built.includes(description.main)) continue;
    cpSync(join(addons, description.main), join(stage, description.main));
    for (const file of LICENSES) cpSync(join(ROOT, file), join(stage, file));
    writeFileSync(
      join(stage, 'README.md'),
      `# ${description.name}\n\nThe native part of [potstill](https://www.npmjs.com/package/potstill) for ${platform}.\n${note}`
        .replace('PACKAGE', description.name)
        .replace('VERSION', version),
    );
    writeJson(join(stage, 'package.json'), { ...description, version, files: [description.main, ...LICENSES] });
    stages.push(stage);
  }
  return stages;
}

/** The demo's models, pictures and recipes, of the program's version: they are made for each other. */
function stageDemo(version) {
  const stage = join(PACK, 'demo');
  cpSync(join(ROOT, 'configs', 'demo'), stage, { recursive: true });
  for (const file of LICENSES) cpSync(join(ROOT, file), join(stage, file));
  const description = readJson(join(stage, 'package.json'));
  writeJson(join(stage, 'package.json'), { ...description, version });
  return stage;
}

async function npmPack(folder) {
  const output = await execute('npm', ['pack', folder, '--json', '--silent', '--pack-destination', PACK]);
  const [{ filename }] = JSON.parse(output.slice(output.indexOf('[')));
  const tarball = join(PACK, filename);
  if (!existsSync(tarball)) throw new Error(`npm pack wrote no ${tarball}`);
  return tarball;
}
