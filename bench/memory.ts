/** Most memory while a full-size checkpoint is inspected, and while it is loaded: `tsx bench/memory.ts --arch sdxl`. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { options } from './lib/options.ts';
import { publish } from './lib/publish.ts';
import { writeSynthetic } from './lib/synthetic-checkpoint.ts';

/** Bounds: of inspecting an f16 SDXL file, and of loading over the weights' own size in f32. */
const MOST_TO_INSPECT = 200e6;
const MOST_TO_LOAD = 1.1;

/** Prints the most memory that a Node process has had, to stderr, when it ends. */
const PEAK = `data:text/javascript,${encodeURIComponent(
  'process.on("exit", () => console.error("peakBytes " + process.resourceUsage().maxRSS * 1024))',
)}`;

const given = options({ arch: 'sdxl', folder: tmpdir() });
const folder = await mkdtemp(join(given.folder, 'potstill-memory-'));
try {
  const path = join(folder, `${given.arch}.safetensors`);
  const file = await writeSynthetic(path, given.arch as 'sd15' | 'sdxl');

  const inspecting = performance.now();
  const main = join(import.meta.dirname, '..', 'dist', 'cli', 'main.js');
  const inspect = spawnSync(process.execPath, ['--import', PEAK, main, 'model', 'inspect', path, '--json'], {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
  if (inspect.status !== 0) throw new Error(`model inspect: ${inspect.stderr}`);
  const seconds = (performance.now() - inspecting) / 1000;
  const report = JSON.parse(inspect.stdout);
  const inspected = { seconds, peakBytes: Number(/peakBytes (\d+)/.exec(inspect.stderr)?.[1]) };

  const side = join(import.meta.dirname, 'sides', 'potstill_load.ts');
  const load = JSON.parse(execFileSync(process.execPath, ['--import', 'tsx', side, path], { encoding: 'utf8' }));
  const weights = 4 * report.parameters;
  const loaded = {
    dtype: 'f32',
    seconds: load.seconds,
    weightsBytes: weights,
    peakBytes: load.peak,
    beforeBytes: load.before,
    peakOverWeights: load.peak / weights,
  };
  await publish(`memory-${given.arch}`, {
    command: `tsx bench/memory.ts --arch ${given.arch}`,
    what: 'the most memory of a process, its runtime and the pages of the mapped file included, on an f16 single file with made-up weights',
    file,
    inspect: { ...inspected, mostBytes: MOST_TO_INSPECT },
    load: { ...loaded, mostOverWeights: MOST_TO_LOAD },
  });
  if (!(inspected.peakBytes < MOST_TO_INSPECT) || !(loaded.peakOverWeights < MOST_TO_LOAD)) {
    process.stderr.write('more memory than is allowed\n');
    process.exitCode = 1;
  }
} finally {
  await rm(folder, { recursive: true });
}
