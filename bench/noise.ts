/** Noise of both generators against torch's. */
import { NOISE_SEED, NOISE_SHAPE } from '../ts/bench/index.ts';
import { agree } from './lib/agree.ts';
import { compare } from './lib/compare.ts';
import { options, potstill, torch } from './lib/options.ts';
import { publishComparison } from './lib/publish.ts';

/** The torch generator is bit-exact on CPUs of torch's AVX2 class: nothing else is timed against it. */
const TOLERANCE = 0;

const { python, threads, turns, iterations } = options({ threads: '1', turns: '10', iterations: '200' });
const plan = { turns: Number(turns), iterations: Number(iterations), warmUp: 3 };
const theirs = torch(python, 'noise', [threads, NOISE_SHAPE.join(','), String(NOISE_SEED)]);
const about = (generator: string) => ({ workload: { generator, shape: NOISE_SHAPE }, threads, plan });

const sameValues = await compare({ ours: potstill('noise', [threads, 'torch']), theirs }, plan, (own, other) =>
  agree(own, other, 'first', TOLERANCE),
);
await publishComparison('noise-torch', about('torch'), sameValues);
// Other values, so there is nothing to compare but the time.
const ownGenerator = await compare({ ours: potstill('noise', [threads, 'philox']), theirs }, plan, () => {});
await publishComparison('noise-philox', about('philox'), ownGenerator);
