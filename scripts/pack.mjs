// `npm run pack:all`: the tarballs that would be published, under target/pack.
import { statSync } from 'node:fs';
import { packAll } from './lib/pack.mjs';
import { reportFailure, setUp } from './setup.mjs';

async function main() {
  await setUp();
  for (const tarball of await packAll()) {
    process.stdout.write(`${tarball}  ${(statSync(tarball).size / 1e6).toFixed(1)} MB\n`);
  }
  return 0;
}

process.exitCode = await main().catch(reportFailure);
