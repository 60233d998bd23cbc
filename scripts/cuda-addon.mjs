// `node scripts/cuda-addon.mjs`: builds the CUDA addon where the loader and `npm run pack:all` look for it. It is built of
// the same crate as the CPU's and is removed when that is built anew, for it would be older.
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { CUDA_BUILT } from './lib/cuda-toolkit.mjs';
import { ADDON, ROOT } from './lib/paths.mjs';
import { execute } from './lib/shell.mjs';
import { reportFailure } from './setup.mjs';

async function main() {
  const out = join(ADDON, 'potstill-cuda.linux-x64-gnu.node');
  const show = (line) => process.stderr.write(`${line}\n`);
  await execute('node', [join(ROOT, 'scripts', 'cuda.mjs')], show);
  mkdirSync(ADDON, { recursive: true });
  rmSync(out, { force: true }); // a process that has the old one mapped keeps it
  await execute('strip', ['--strip-unneeded', '-o', out, join(CUDA_BUILT, 'libpotstill_node.so')]);
  process.stdout.write(`${out}\n`);
  return 0;
}

process.exitCode = await main().catch(reportFailure);
