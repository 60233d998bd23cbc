import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { ADDON, DIST, PAGE, ROOT, WASM, WASM_COMPUTE } from './paths.mjs';
import { execute } from './shell.mjs';

/** Compiles ts/ to dist/, puts beside it what tsc does not copy, and writes the recipe's JSON Schema. */
export async function buildTypeScript() {
  const program = join(DIST, 'cli', 'main.js');
  // What tsc remembers of a build whose output was deleted would keep it from writing that again.
  if (!existsSync(program)) rmSync(join(ROOT, 'target', 'ts', 'build.tsbuildinfo'), { force: true });
  await execute('tsc', ['-p', 'tsconfig.json', '--pretty', 'false']);
  prune(DIST, join(ROOT, 'ts'));
  copy(WASM, join(DIST, 'native', 'wasm'), () => true);
  copy(WASM_COMPUTE, join(DIST, 'native', 'wasm-compute'), () => true);
  copy(ADDON, join(DIST, 'native', 'generated'), (name) => name.endsWith('.d.ts'));
  chmodSync(program, 0o755);
  await writeSchema();
  await buildPage();
}

/** The page that verifies: its scripts, what it shares with the rest, and both WASM modules; nothing else is needed to serve it. */
async function buildPage() {
  const source = join(ROOT, 'ts', 'page');
  rmSync(PAGE, { recursive: true, force: true });
  await execute('tsc', ['-p', source, '--pretty', 'false']);
  copy(source, PAGE, (name) => name.endsWith('.css'));
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  writeFileSync(
    join(PAGE, 'index.html'),
    readFileSync(join(source, 'index.html'), 'utf8').replace('%VERSION%', version),
  );
  copy(WASM, join(PAGE, 'native', 'wasm'), (name) => !name.endsWith('.d.ts'));
  copy(WASM_COMPUTE, join(PAGE, 'native', 'wasm-compute'), (name) => !name.endsWith('.d.ts'));
}

/** Removes what an earlier build wrote for a source that is gone. */
function prune(dist, source) {
  for (const entry of readdirSync(dist, { withFileTypes: true })) {
    const path = join(dist, entry.name);
    if (entry.isDirectory()) {
      if (existsSync(join(source, entry.name))) prune(path, join(source, entry.name));
      else rmSync(path, { recursive: true });
      continue;
    }
    const stem = entry.name.replace(/(\.d\.ts|\.js)(\.map)?$/, '');
    if (stem !== entry.name && !existsSync(join(source, `${stem}.ts`)) && !existsSync(join(source, entry.name)))
      rmSync(path);
  }
}

function copy(from, to, keep) {
  if (!existsSync(from)) return;
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(from).filter(keep)) cpSync(join(from, name), join(to, name));
}

async function writeSchema() {
  const schema = await execute('node', [join('dist', 'cli', 'main.js'), 'recipe', 'schema']);
  const folder = join(ROOT, 'schema');
  mkdirSync(folder, { recursive: true });
  const file = join(folder, 'recipe.schema.json');
  writeFileSync(`${file}.new`, schema);
  renameSync(`${file}.new`, file);
}
