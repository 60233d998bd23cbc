/** A full-size VAE against diffusers: `tsx bench/vae.ts --mode decode --python PATH`. */
import { availableParallelism } from 'node:os';
import { requireVaeMemory, VAE, VAE_INPUT_SEED, type VaeMode, WEIGHTS_SEED } from '../ts/bench/index.ts';
import { agree } from './lib/agree.ts';
import { compare } from './lib/compare.ts';
import { options, potstill, torch } from './lib/options.ts';
import { publishComparison } from './lib/publish.ts';

/** Both sides compute in f32, in another order. */
const TOLERANCE = 1e-4;

const given = options({
  mode: 'decode',
  size: '512',
  batch: '1',
  threads: String(availableParallelism()),
  turns: '4',
  iterations: '3',
});
const mode = given.mode as VaeMode;
const workload = { mode, size: Number(given.size), batch: Number(given.batch) };
const details = { config: VAE, weightsSeed: Number(WEIGHTS_SEED), inputSeed: Number(VAE_INPUT_SEED) };
const plan = { turns: Number(given.turns), iterations: Number(given.iterations), warmUp: 0 };
const words = [given.threads, JSON.stringify({ ...workload, ...details })];

await requireVaeMemory(workload);
const comparison = await compare(
  { ours: potstill('vae', words), theirs: torch(given.python, 'vae', words) },
  plan,
  (ours, theirs) => agree(ours, theirs, 'output', TOLERANCE),
);
await publishComparison(
  `vae-${mode}`,
  { workload: { ...workload, dtype: 'f32' }, threads: given.threads, plan },
  comparison,
);
