import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { loadEngine, noise } from '../ts/native/index.ts';
import { compare } from './lib/compare.ts';
import { Peer } from './lib/peer.ts';
import { publish } from './lib/publish.ts';

/** Latents of 64 pictures of 512². */
const SHAPE = [64, 4, 64, 64] as const;
const VALUES = SHAPE.reduce((product, size) => product * size, 1);
const SEED = 42n;
/** The torch generator is bit-exact on CPUs of torch's AVX2 class: nothing else is timed against it. */
const TOLERANCE = 0;

const { values } = parseArgs({
  options: {
    python: { type: 'string' },
    iterations: { type: 'string', default: '20' },
    threads: { type: 'string', default: '1' }, // torch's CPU generator is sequential
  },
});

const engine = await loadEngine({ threads: Number(values.threads) });

/** Seconds that one tensor of noise takes until it can be read. */
async function measure(generator: 'torch' | 'philox'): Promise<number> {
  const begun = performance.now();
  const tensor = noise(engine, { generator, seeds: [SEED], shape: SHAPE });
  await engine.settled();
  const seconds = (performance.now() - begun) / 1000;
  tensor.dispose();
  return seconds;
}

const peer =
  values.python === undefined
    ? undefined
    : new Peer(values.python, [join(import.meta.dirname, 'peers', 'noise.py'), values.threads, SHAPE.join(',')]);
const introduction = await peer?.introduce();
if (introduction !== undefined) {
  const ours = await noise(engine, { generator: 'torch', seeds: [SEED], shape: SHAPE }).toArray();
  const theirs = introduction['first'] as readonly number[];
  const worst = Math.max(...theirs.map((value, index) => Math.abs(value - (ours[index] ?? Number.NaN))));
  if (!(worst <= TOLERANCE)) throw new Error(`the first values differ by ${worst}: not timed`);
}

const iterations = Number(values.iterations);
const torch = await compare(() => measure('torch'), peer && (() => peer.run()), iterations, 3);
const philox = await compare(() => measure('philox'), undefined, iterations, 3);
peer?.end();
await publish('noise', {
  values: VALUES,
  threads: Number(values.threads),
  kernels: engine.kernelClass,
  peer: introduction?.['versions'],
  torch,
  philox,
});
