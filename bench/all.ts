/** `npm run bench -- --python PATH`: every comparison, then the table in README.md. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const RUNS: readonly (readonly string[])[] = [
  ['noise.ts'],
  ['unet.ts', '--arch', 'sd15', '--mode', 'forward'],
  ['unet.ts', '--arch', 'sd15', '--mode', 'full', '--turns', '3'],
  ['unet.ts', '--arch', 'sdxl', '--mode', 'forward', '--turns', '3'],
  ['table.ts'],
];

const words = process.argv.slice(2);
for (const [file = '', ...own] of RUNS) {
  const given = file === 'table.ts' ? [] : words;
  const run = [join(import.meta.dirname, file), ...own, ...given];
  const { status } = spawnSync(process.execPath, ['--import', 'tsx', ...run], { stdio: 'inherit' });
  if (status !== 0) process.exitCode = 1;
}
