import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ADDON, DIST, ROOT, WASM } from './paths.mjs';
import { execute } from './shell.mjs';

/** Compiles ts/ to dist/, puts beside it what tsc does not copy, and writes the recipe's JSON Schema. */
export async function buildTypeScript() {
  await execute('tsc', ['-p', 'tsconfig.json', '--pretty', 'false']);
  prune(DIST, join(ROOT, 'ts'));
  copy(WASM, join(DIST, 'native', 'wasm'), () => true);
  copy(ADDON, join(DIST, 'native', 'generated'), (name) => name.endsWith('.d.ts'));
  chmodSync(join(DIST, 'cli', 'main.js'), 0o755);
  await writeSchema();
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
