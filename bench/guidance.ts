/**
 * What guidance costs a picture, on the demo's base of either shape: `tsx bench/guidance.ts`. A student that has it baked in
 * draws at guidance 1; its adapter, laid into the weights, costs nothing.
 */
import { join } from 'node:path';
import { loadEngine } from '../ts/native/index.ts';
import { watchOthers } from './lib/busy.ts';
import { draw } from './lib/draw.ts';
import { options } from './lib/options.ts';
import { publish } from './lib/publish.ts';
import { compareTimes, summarise } from './lib/statistics.ts';

const DEMO = join(import.meta.dirname, '..', 'configs', 'demo');
const SHAPES = { sd15: 'base', sdxl: 'base-sdxl' } as const;
const PROMPTS = ['panda face', 'slice of pizza', 'smiling face with sunglasses', 'skull'];
const GUIDANCE = 5;

const given = options({ turns: '5', steps: '20' });
const [turns, steps] = [Number(given.turns), Number(given.steps)];
const engine = await loadEngine();

/** Seconds per picture with guidance and without, in turns; one turn of both is not counted. */
async function timesOf(model: string) {
  const times = { guided: [] as number[][], plain: [] as number[][] };
  for (let turn = 0; turn <= turns; turn += 1) {
    for (const [side, guidance] of [
      ['guided', GUIDANCE],
      ['plain', 1],
    ] as const) {
      const { secondsPerImage } = await draw(
        engine,
        { model, adapters: [], guidance },
        { prompts: PROMPTS, seed: turn, steps },
      );
      if (turn > 0) times[side].push([secondsPerImage]);
    }
  }
  const [guided, plain] = [summarise(times.guided.flat()), summarise(times.plain.flat())];
  return { guided, plain, ...compareTimes(times.plain, times.guided) };
}

const others = await watchOthers(process.pid);
const shapes: Record<string, object> = {};
for (const [shape, folder] of Object.entries(SHAPES)) shapes[shape] = await timesOf(join(DEMO, folder));
await publish('guidance', {
  command: 'tsx bench/guidance.ts',
  kernels: engine.kernelClass,
  threads: engine.threads,
  workload: {
    sampler: 'euler',
    steps,
    batch: PROMPTS.length,
    guidance: GUIDANCE,
    seconds: 'per picture, of the steps',
  },
  turns,
  othersBusy: await others(),
  shapes,
});
