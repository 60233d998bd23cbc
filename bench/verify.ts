/**
 * Verification of caches, structure and determinism: against the same checks in Python, WASM against the addon, and against the
 * disk. Caches are made first, in a folder that is removed again, or in `--folder`, where they are found the next time.
 */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadEngine } from '../ts/native/index.ts';
import { agreeOnCache, agreeToTheByte } from './lib/agree-on-cache.ts';
import { compare, type Introduction } from './lib/compare.ts';
import { options, potstill, side, torch } from './lib/options.ts';
import type { Program } from './lib/peer.ts';
import { publishComparison } from './lib/publish.ts';
import { buildSyntheticCache, plansOf } from './lib/synthetic-cache.ts';

const PARTS = ['files', 'shards', 'wasm', 'disk'] as const;
const given = options({ images: '512', turns: '5', iterations: '5', threads: '2', folder: '', only: '' });
const { python, turns, threads } = given;
const plan = { turns: Number(turns), iterations: Number(given.iterations), warmUp: 2 };
if (!PARTS.some((part) => part.includes(given.only)))
  throw new Error(`--only ${given.only}: one of ${PARTS.join(', ')}`);
const isWanted = (part: (typeof PARTS)[number]): boolean => part.includes(given.only);

/** Draws of a view, as recipes have unless they say otherwise. */
const DRAWS = 4;

const folder = given.folder === '' ? await mkdtemp(join(tmpdir(), 'potstill-verify-')) : given.folder;
const [files, unknown, images, shards] = ['files', 'unknown', 'images', 'shards'].map((name) => join(folder, name)) as [
  string,
  string,
  string,
  string,
];
try {
  await makeCaches();
  if (isWanted('files')) {
    for (const count of new Set([threads, '1'])) {
      const sides = {
        ours: onThreads(count, potstill('verify', ['native', files, images])),
        theirs: torch(python, 'verify', ['files', files, count, images]),
      };
      const measured = await compare(sides, plan, agreeOnCache);
      await publishComparison(nameOf('verify-files', count), about('files', count, measured.introductions), measured);
    }
  }
  if (isWanted('shards')) {
    const sides = {
      ours: onThreads(threads, potstill('verify', ['native', shards])),
      theirs: torch(python, 'verify', ['shards', shards, threads]),
    };
    const measured = await compare(sides, plan, agreeOnCache);
    await publishComparison('verify-shards', about('shards', threads, measured.introductions), measured);
  }
  if (isWanted('wasm')) {
    // Of noise that no generator makes, nothing is made anew but the first values.
    for (const [name, cache] of [
      ['verify-wasm', unknown],
      ['verify-wasm-noise', files],
    ] as const) {
      const sides = { ours: potstill('verify', ['wasm', cache]), theirs: potstill('verify', ['native', cache]) };
      const ours = onThreads('1', sides.ours);
      const measured = await compare({ ours, theirs: onThreads('1', sides.theirs) }, plan, agreeToTheByte);
      await publishComparison(name, about('files', '1', measured.introductions), measured);
    }
  }
  if (isWanted('disk')) {
    const sides = {
      ours: onThreads(threads, potstill('verify', ['native', files, images, 'cold'])),
      theirs: side('read_files', [files, threads]),
    };
    const measured = await compare(sides, { ...plan, warmUp: 0 }, () => {});
    await publishComparison('verify-disk', about('files', threads, measured.introductions), measured);
  }
} finally {
  if (given.folder === '') await rm(folder, { recursive: true });
}

/** Makes what is not there. The files layout is made by torch, so that noise which it made is recognised. */
async function makeCaches(): Promise<void> {
  if (!existsSync(files)) {
    if (python === undefined) throw new Error('--python is missing: torch makes the cache that is verified');
    const maker = join(import.meta.dirname, 'sides', 'make_verify_cache.py');
    execFileSync(python, [maker, folder, given.images], { stdio: 'inherit' });
  }
  if (!existsSync(shards) && isWanted('shards')) {
    const teachers = ['animals', 'food'];
    const plans = plansOf({ images: Number(given.images), draws: DRAWS, teachers, generator: 'torch' });
    await buildSyntheticCache(await loadEngine(), shards, plans);
  }
}

function onThreads(count: string, program: Program): Program {
  return { ...program, environment: { ...program.environment, RAYON_NUM_THREADS: count } };
}

function nameOf(name: string, count: string): string {
  return count === '1' ? `${name}-1` : name;
}

/** What a result says of its workload. */
function about(layout: string, count: string, [own]: readonly Introduction[]) {
  const outcome = own?.['outcome'] as { readonly entries: number } | undefined;
  return { workload: { layout, bytes: own?.['bytes'], entries: outcome?.entries }, threads: count, plan };
}
