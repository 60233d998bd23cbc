/** Runs `potstill demo` and records what it came to; without `--long yes` also renews the README's picture. */
import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { concat, encodePng, loadEngine, readPicture, type Tensor } from '../ts/native/index.ts';
import { writeAtomic } from '../ts/write-atomic.ts';
import { options } from './lib/options.ts';
import { publish } from './lib/publish.ts';

const ROOT = join(import.meta.dirname, '..');
const PICTURE = join(ROOT, 'docs', 'demo.png');
/** Rows of the README's picture. */
const ROLES = ['teacher', 'student', 'undistilled'] as const;

const { long, note } = options({ long: 'no', note: '' });
const name = long === 'yes' ? 'demo-long' : 'demo';
const words = [...(long === 'yes' ? ['--long'] : []), '--out', join(ROOT, 'runs', name), '--json'];
const begun = performance.now();
const output = execFileSync(process.execPath, [join(ROOT, 'dist/cli/main.js'), 'demo', ...words], {
  encoding: 'utf8',
  stdio: ['ignore', 'pipe', 'inherit'],
});
const seconds = (performance.now() - begun) / 1000;
const { run, distance, stages, verification } = JSON.parse(output);
const evaluation = JSON.parse(await readFile(join(run, 'evaluation', 'evaluation.json'), 'utf8'));
const { sampler, steps, seeds, prompts, models, rms, images } = evaluation;
const engine = await loadEngine();
await publish(name, {
  command: `potstill demo${long === 'yes' ? ' --long' : ''}`,
  ...(note === '' ? {} : { note }),
  kernels: engine.kernelClass,
  threads: engine.threads,
  seconds,
  distance,
  rms,
  evaluation: { sampler, steps, seeds, prompts: prompts.length },
  models,
  stages,
  verification,
});

if (long !== 'yes') {
  const rows: Tensor[] = [];
  for (const role of ROLES) {
    const files: string[] = images.map(({ files }: { files: Record<string, string> }) => files[role]);
    rows.push(concat(await Promise.all(files.map((file) => readPicture(engine, join(run, 'evaluation', file)))), 3));
  }
  await writeAtomic(PICTURE, await encodePng(concat(rows, 2)));
}
