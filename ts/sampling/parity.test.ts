import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writeTinyModel } from '../../test/support/tiny-model.ts';
import { relativeError } from '../../test/support/unet-fixture.ts';
import { loadEngine, noise, openModel, readTensors, type SamplerKind, type Spacing, scope } from '../native/index.ts';
import { sampleLatents } from './index.ts';

/** A run of test/fixtures/make_samplers.py. */
interface Run {
  readonly sampler: SamplerKind;
  readonly prediction_type: string;
  readonly spacing: Spacing | null;
  readonly karras: boolean;
  readonly zsnr: boolean;
  readonly eta: number | null;
  readonly shift: number;
  readonly steps: number;
  readonly x: string;
}

interface Expected {
  readonly noise: { readonly seed: number; readonly shape: readonly number[] };
  readonly step_seed: number;
  readonly runs: readonly Run[];
}

/** Of the latents' scale; where the schedule ends without signal diffusers' own f32 coefficients lose digits. */
const tolerance = ({ zsnr }: Run): number => (zsnr ? 5e-4 : 5e-5);

const fixtures = new URL('../../test/fixtures/samplers/', import.meta.url).pathname;
const engine = await loadEngine({ threads: 2 });
const expected = JSON.parse(await readFile(join(fixtures, 'expected.json'), 'utf8')) as Expected;
let folder = '';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'potstill-parity-'));
  await writeTinyModel(engine, folder, 1);
  await mkdir(join(folder, 'scheduler'), { recursive: true });
});
afterAll(() => rm(folder, { recursive: true }));

const torch = (seed: number, shape: readonly number[]) =>
  noise(engine, { generator: 'torch', seeds: [BigInt(seed)], shape }).reshape(shape);

async function finalLatents(run: Run): Promise<Float32Array> {
  const isFlow = run.sampler === 'flow-euler';
  const config = {
    _class_name: isFlow ? 'FlowMatchEulerDiscreteScheduler' : 'DDIMScheduler',
    ...{ prediction_type: run.prediction_type, rescale_betas_zero_snr: run.zsnr, shift: run.shift },
  };
  await writeFile(join(folder, 'scheduler', 'scheduler_config.json'), JSON.stringify(config));
  return scope(async () => {
    const { schedule } = await openModel(engine, folder);
    const { shape, seed } = expected.noise;
    const latents = await sampleLatents({
      ...{ schedule, sampler: run.sampler, steps: run.steps, karras: run.karras },
      ...{ spacing: run.spacing ?? undefined, eta: run.eta ?? undefined },
      noise: torch(seed, shape),
      stepNoise: (step) => torch(expected.step_seed + step, shape),
      predict: (sample, [timestep = 0]) => sample.affine(0.3, 0.1 * Math.sin(timestep / 100)),
    });
    return latents.toArray();
  });
}

test.each([...new Set(expected.runs.map(({ sampler }) => sampler))])(
  '%s ends where diffusers does',
  async (sampler) => {
    const reference = await readTensors(engine, join(fixtures, 'expected.safetensors'));
    const runs = expected.runs.filter((run) => run.sampler === sampler);
    expect(runs.length).toBeGreaterThan(4);
    for (const run of runs) {
      const wanted = await reference.get(run.x)?.slice(0, 2, 1).toArray();
      const error = relativeError(await finalLatents(run), wanted ?? new Float32Array());
      expect(error, JSON.stringify(run)).toBeLessThan(tolerance(run));
    }
  },
);
