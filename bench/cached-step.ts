/** What a step on cached predictions costs beside one of ordinary training, on the demo's model: `tsx bench/cached-step.ts`. */
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { compare } from './lib/compare.ts';
import { options, potstill } from './lib/options.ts';
import { publishComparison } from './lib/publish.ts';

const ROOT = join(import.meta.dirname, '..');
const DEMO = join(ROOT, 'configs', 'demo');
const RECIPE = join(DEMO, 'recipes', 'adapters', 'cfg.json');

const given = options({ threads: String(availableParallelism()), turns: '4', iterations: '60' });
const plan = { turns: Number(given.turns), iterations: Number(given.iterations), warmUp: 5 };
const images = join(DEMO, 'images', 'nature-held-out');

const folder = await mkdtemp(join(tmpdir(), 'potstill-bench-'));
/** The same training by another method, with a cache of its own. */
function changes(method: object): string[] {
  const { id } = method as { id: string };
  return [
    `method=${JSON.stringify(method)}`,
    `data=${JSON.stringify([{ images, captions: 'jsonl', size: [128, 128] }])}`,
    `cache.dir=${join(folder, `cache-${id}`)}`,
    `output=${join(folder, id)}`,
  ];
}
try {
  const [cached, denoise] = [changes({ id: 'cfg', guidance: 5 }), changes({ id: 'denoise' })];
  // By processes of their own: what it takes to predict is no part of a step.
  for (const set of [cached, denoise]) {
    const words = set.flatMap((change) => ['--set', change]);
    const main = join(ROOT, 'ts', 'cli', 'main.ts');
    execFileSync(process.execPath, ['--import', 'tsx', main, 'cache', 'build', RECIPE, ...words], {
      cwd: ROOT,
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  }
  const side = (set: readonly string[]) => potstill('step', [given.threads, RECIPE, JSON.stringify(set)]);
  // Different losses of different targets: there is nothing for the two to agree on.
  const comparison = await compare({ ours: side(cached), theirs: side(denoise) }, plan, () => undefined);
  const workload = { recipe: 'configs/demo/recipes/adapters/cfg.json', ours: 'cfg, cached', theirs: 'denoise' };
  await publishComparison('cached-step', { workload, threads: given.threads, plan }, comparison);
} finally {
  await rm(folder, { recursive: true });
}
