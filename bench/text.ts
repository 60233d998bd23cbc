/** Full-size text encoders against transformers: `tsx bench/text.ts --arch sdxl --python PATH`. */
import { availableParallelism } from 'node:os';
import {
  type Architecture,
  requireTextMemory,
  TEXT_ENCODERS,
  TextBenchmark,
  textWeightsSeed,
} from '../ts/bench/index.ts';
import { loadEngine } from '../ts/native/index.ts';
import { agree } from './lib/agree.ts';
import { compare } from './lib/compare.ts';
import { options, potstill, torch } from './lib/options.ts';
import { publishComparison } from './lib/publish.ts';

/** Both sides compute in f32, in another order. */
const TOLERANCE = 1e-4;
/** Sizes of encoders that are made for their tokenizers alone. */
const SMALL = { hidden_size: 8, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 1, projection_dim: 8 };

const given = options({
  arch: 'sd15',
  batch: '2',
  threads: String(availableParallelism()),
  turns: '5',
  iterations: '10',
});
const arch = given.arch as Architecture;
const workload = { arch, batch: Number(given.batch) };
const configs: readonly object[] = TEXT_ENCODERS[arch];
const plan = { turns: Number(given.turns), iterations: Number(given.iterations), warmUp: 2 };

await requireTextMemory(arch, workload);
// potstill encodes texts, the other side the tokens of the same texts.
const small = configs.map((config) => ({ ...config, ...SMALL }));
const tokenIds = await (await TextBenchmark.create(await loadEngine(), small, workload)).tokenIds();
const encoders = configs.map((config, index) => ({
  config,
  weightsSeed: Number(textWeightsSeed(index)),
  tokenIds: tokenIds[index],
}));
const words = [given.threads, JSON.stringify({ ...workload, encoders })];
const comparison = await compare(
  { ours: potstill('text', words), theirs: torch(given.python, 'text', words) },
  plan,
  (ours, theirs) => agree(ours, theirs, 'output', TOLERANCE),
);
await publishComparison(
  `text-${arch}`,
  { workload: { ...workload, dtype: 'f32' }, threads: given.threads, plan },
  comparison,
);
