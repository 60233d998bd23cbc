/** A full-size UNet against diffusers: `tsx bench/unet.ts --arch sd15 --mode forward --python PATH`. */
import { availableParallelism } from 'node:os';
import { ARCHITECTURES, type Architecture, INPUT_SEEDS, WEIGHTS_SEED } from '../ts/bench/index.ts';
import { agree } from './lib/agree.ts';
import { compare } from './lib/compare.ts';
import { options, potstill, torch } from './lib/options.ts';
import { publish } from './lib/publish.ts';

/** Both sides compute in f32, in another order: predictions and norms of gradients agree to about 1e-6. */
const TOLERANCE = 1e-4;
/** Parameters whose gradients are compared: at the entry, in the middle, at the exit. */
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
  batch: '1',
  recompute: 'no',
  threads: String(availableParallelism()),
  turns: '5',
  iterations: '2',
  apart: 'auto',
});
const workload = {
  config: ARCHITECTURES[given.arch as Architecture],
  mode: given.mode,
  size: Number(given.size),
  batch: Number(given.batch),
  recompute: given.recompute === 'yes',
  checked: CHECKED,
  weightsSeed: Number(WEIGHTS_SEED),
  inputSeeds: Object.fromEntries(Object.entries(INPUT_SEEDS).map(([name, seed]) => [name, Number(seed)])),
};
// Gradients, and SDXL's weights, are too large to have two processes of in the memory of a small machine.
const apart = given.apart === 'auto' ? given.arch === 'sdxl' || given.mode === 'full' : given.apart === 'yes';
const plan = { turns: Number(given.turns), iterations: Number(given.iterations), warmUp: 1, apart };
const words = [given.threads, JSON.stringify(workload)];

const { introductions, ...times } = await compare(
  { ours: potstill('unet', words), theirs: torch(given.python, 'unet', words) },
  plan,
  (ours, theirs) => {
    agree(ours, theirs, 'prediction', TOLERANCE);
    if (given.mode === 'full') agree(ours, theirs, 'gradientNorms', TOLERANCE);
  },
);
const [own, other] = introductions;
const { arch, mode } = given;
const name = ['unet', arch, mode, ...(workload.recompute ? ['recompute'] : [])].join('-');
await publish(name, {
  workload: { arch, mode, size: workload.size, batch: workload.batch, recompute: workload.recompute, dtype: 'f32' },
  threads: Number(given.threads),
  plan,
  kernels: own?.['kernels'],
  peer: other?.['versions'],
  flops: own?.['flops'],
  flopsPerSecond: (own?.['flops'] as number) / times.ours.median,
  gemmFlopsPerSecond: other?.['gemmFlopsPerSecond'],
  ...times,
});
