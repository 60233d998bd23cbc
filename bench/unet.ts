/** A full-size UNet against diffusers: `tsx bench/unet.ts --arch sd15 --mode forward --python PATH`. */
import { availableParallelism } from 'node:os';
import {
  type Architecture,
  INPUT_SEEDS,
  LORA_RANK,
  LORA_SEED,
  requireUnetMemory,
  UNETS,
  type UnetMode,
  WEIGHTS_SEED,
} from '../ts/bench/index.ts';
import type { Precision } from '../ts/native/index.ts';
import { agree, agreeWith } from './lib/agree.ts';
import { compare, introduce } from './lib/compare.ts';
import { heldTo } from './lib/kernels.ts';
import { options, potstill, torch } from './lib/options.ts';
import { publishComparison } from './lib/publish.ts';

/** Both sides compute in f32, in another order: predictions and norms of gradients agree to about 1e-6. */
const TOLERANCE = 1e-4;
/**
 * In bf16 the two sides round in other places, and differ by more than either does from the truth: both are compared with
 * PyTorch in f32, and ours may be this much farther from it.
 */
const TIMES_FARTHER = 1.5;
/** Parameters whose gradients are compared in `full`: at the entry, in the middle, at the exit. In `lora` all are. */
const CHECKED = [
  'conv_in.weight',
  'time_embedding.linear_1.weight',
  'down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight',
  'mid_block.resnets.0.conv1.weight',
  'up_blocks.1.attentions.0.transformer_blocks.0.ff.net.0.proj.weight',
  'conv_out.bias',
];

const given = options({
  arch: 'sd15',
  mode: 'forward',
  size: '512',
  dtype: 'f32',
  batch: '1',
  recompute: 'no',
  kernels: 'best',
  threads: String(availableParallelism()),
  turns: '4',
  iterations: '2',
});
const [arch, mode] = [given.arch as Architecture, given.mode as UnetMode];
const workload = {
  mode,
  size: Number(given.size),
  batch: Number(given.batch),
  recompute: given.recompute === 'yes',
  dtype: given.dtype as Precision,
};
const details = {
  config: UNETS[arch],
  checked: CHECKED,
  weightsSeed: Number(WEIGHTS_SEED),
  lora: { rank: LORA_RANK, seed: Number(LORA_SEED) },
  inputSeeds: Object.fromEntries(Object.entries(INPUT_SEEDS).map(([name, seed]) => [name, Number(seed)])),
};
const plan = { turns: Number(given.turns), iterations: Number(given.iterations), warmUp: 0 };
const wordsOf = (dtype: Precision) => [given.threads, JSON.stringify({ ...workload, ...details, dtype })];

await requireUnetMemory(arch, workload);
const { dtype } = workload;
const { kernels } = given;
const exact = dtype === 'f32' ? undefined : torch(given.python, 'unet', wordsOf('f32'));
const reference = exact === undefined ? undefined : await introduce(exact);
const words = wordsOf(dtype);
const comparison = await compare(
  heldTo(kernels, { ours: potstill('unet', words), theirs: torch(given.python, 'unet', words) }),
  plan,
  (ours, theirs) => {
    for (const key of ['prediction', ...(mode === 'forward' ? [] : ['gradientNorms'])]) {
      if (reference === undefined) agree(ours, theirs, key, TOLERANCE);
      else agreeWith(reference, { ours, theirs }, key, TIMES_FARTHER);
    }
  },
);
const variant = [
  ...(workload.recompute ? ['recompute'] : []),
  ...(dtype === 'f32' ? [] : [dtype]),
  ...(kernels === 'best' ? [] : [kernels]),
];
const name = ['unet', arch, mode, ...variant].join('-');
await publishComparison(name, { workload: { arch, ...workload }, threads: given.threads, plan }, comparison);
