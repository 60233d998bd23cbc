/**
 * The index of a cache of a million predictions: opened as a training opens it (plans and seals read, checked and held), and
 * counted by `cache stats`. A process of its own every time: seconds, and the most memory of the whole process.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { options } from './lib/options.ts';
import { publish } from './lib/publish.ts';
import { summarise } from './lib/statistics.ts';
import { plansOf, writeIndex } from './lib/synthetic-cache.ts';

const MOST_SECONDS = 1;
const MOST_BYTES = 200e6;
/** Draws of a view, as recipes have unless they say otherwise. */
const DRAWS = 4;

const given = options({ images: '250000', turns: '7', folder: '' });
const images = Number(given.images);
const MAIN = join(import.meta.dirname, '..', 'dist', 'cli', 'main.js');
const OPEN = join(import.meta.dirname, 'sides', 'open_index.mjs');

/** What a process says of itself when it ends. */
interface Opened {
  readonly seconds: number;
  readonly peakBytes: number;
}

/** Prints the most memory that a Node process has had, to stderr, when it ends. */
const PEAK = `data:text/javascript,${encodeURIComponent(
  'process.on("exit", () => console.error("peakBytes " + process.resourceUsage().maxRSS * 1024))',
)}`;

function start(words: readonly string[]): Opened & { readonly stdout: string } {
  const begun = performance.now();
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', PEAK, ...words], { encoding: 'utf8' });
  const seconds = (performance.now() - begun) / 1000;
  if (status !== 0) throw new Error(`${words.join(' ')} ended with ${status}: ${stderr}`);
  return { seconds, peakBytes: Number(/peakBytes (\d+)/.exec(stderr)?.[1]), stdout };
}

/** The first finds its files on the disk, the others in memory. */
function measure(open: () => Opened) {
  open();
  const opened = Array.from({ length: Number(given.turns) }, open);
  const seconds = opened.map((one) => one.seconds);
  return { ...summarise(seconds), seconds, peakBytes: Math.max(...opened.map((one) => one.peakBytes)) };
}

const folder = given.folder === '' ? await mkdtemp(join(tmpdir(), 'potstill-index-')) : given.folder;
try {
  const cache = join(folder, `index-${images}`);
  const teacher = 'animals';
  if (!existsSync(cache)) {
    await writeIndex(cache, plansOf({ images, draws: DRAWS, teachers: [teacher], generator: 'philox' }));
  }
  const entries = images * DRAWS;
  const open = measure(() => {
    const { stdout, peakBytes } = start([OPEN, cache, teacher]);
    return { seconds: (JSON.parse(stdout) as { seconds: number }).seconds, peakBytes };
  });
  const stats = measure(() => {
    const { stdout, ...opened } = start([MAIN, 'cache', 'stats', cache, '--json']);
    const { samples } = JSON.parse(stdout) as { samples: number };
    if (samples !== entries) throw new Error(`cache stats counts ${samples} of ${entries} samples`);
    return opened;
  });
  await publish('cache-index', {
    what: `latents, text and a teacher of ${images} images with a caption each and ${DRAWS} draws; \`open\` is the addon's, without the start of Node; \`stats\` the whole command`,
    entries,
    mostSeconds: MOST_SECONDS,
    mostBytes: MOST_BYTES,
    open,
    stats,
  });
  if (![open, stats].every(({ median, peakBytes }) => median < MOST_SECONDS && peakBytes < MOST_BYTES)) {
    process.stderr.write('more time or memory than is allowed\n');
    process.exitCode = 1;
  }
} finally {
  if (given.folder === '') await rm(folder, { recursive: true });
}
