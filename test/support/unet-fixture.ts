import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Engine, noise, readTensors, Tensor, Unet, type UnetInputs } from '../../ts/native/index.ts';

/** One forward and backward of diffusers' UNet: see test/fixtures/README.md. */
export interface FixtureCase {
  readonly name: string;
  readonly batch: number;
  readonly height: number;
  readonly width: number;
  readonly timestep: readonly number[];
  readonly time_ids: readonly (readonly number[])[] | null;
  readonly loss: number;
  readonly gradients: Readonly<Record<string, { readonly norm: number; readonly projections: readonly number[] }>>;
}

interface Expected {
  readonly weights: { readonly base_seed: number; readonly sha256: string };
  readonly input_seeds: Readonly<Record<'sample' | 'encoder_hidden_states' | 'target' | 'text_embeds', number>>;
  readonly text_embeds_width: number | null;
  readonly cases: readonly FixtureCase[];
}

/** A tiny random UNet in a true shape, with what diffusers makes of it. */
export class UnetFixture {
  readonly folder: URL;
  readonly config: { readonly cross_attention_dim: number };
  readonly expected: Expected;

  constructor(name: 'unet_sd15_tiny' | 'unet_sdxl_tiny') {
    this.folder = new URL(`../fixtures/${name}/`, import.meta.url);
    const json = (file: string): unknown => JSON.parse(readFileSync(new URL(file, this.folder), 'utf8'));
    this.config = json('config.json') as { cross_attention_dim: number };
    this.expected = json('expected.json') as Expected;
  }

  case(name: string): FixtureCase {
    const found = this.expected.cases.find((one) => one.name === name);
    if (found === undefined) throw new RangeError(`there is no case ${name}`);
    return found;
  }

  unet(engine: Engine): Promise<Unet> {
    return Unet.random(engine, this.config, BigInt(this.expected.weights.base_seed), 'normal');
  }

  /** A case's inputs, and the target of its loss. */
  inputs(engine: Engine, name: string): { inputs: UnetInputs; target: Tensor } {
    const { batch, height, width, timestep, time_ids: sizes } = this.case(name);
    const { input_seeds: seeds, text_embeds_width: pooled } = this.expected;
    const draw = (seed: number, shape: readonly number[]): Tensor =>
      noise(engine, { generator: 'torch', seeds: [BigInt(seed)], shape }).reshape(shape);
    const latents = [batch, 4, height, width];
    return {
      inputs: {
        sample: draw(seeds.sample, latents),
        timesteps: Float64Array.from(timestep),
        encoderHiddenStates: draw(seeds.encoder_hidden_states, [batch, 77, this.config.cross_attention_dim]),
        ...(pooled === null ? {} : { textEmbeds: draw(seeds.text_embeds, [batch, pooled]) }),
        ...(sizes === null ? {} : { timeIds: Tensor.fromArray(engine, sizes.flat(), [batch, 6]) }),
      },
      target: draw(seeds.target, latents),
    };
  }

  /** A tensor of `expected.safetensors`. */
  async tensor(engine: Engine, name: string): Promise<Float32Array> {
    const tensors = await readTensors(engine, fileURLToPath(new URL('expected.safetensors', this.folder)), [name]);
    return (tensors.get(name) as Tensor).toArray();
  }
}

/** Largest difference over the largest magnitude of what is expected. */
export function relativeError(found: Float32Array, expected: Float32Array): number {
  if (found.length !== expected.length) return Number.POSITIVE_INFINITY;
  const largest = expected.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  return found.reduce((max, value, i) => Math.max(max, Math.abs(value - (expected[i] ?? Number.NaN))), 0) / largest;
}
