import { mkdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ROWS_PER_BATCH } from '../../ts/cache/build/batches.ts';
import { canonicalJson, type Json } from '../../ts/cache/canonical.ts';
import { componentName, PLAN_FILE, recordCount, SEAL_FILE } from '../../ts/cache/component.ts';
import { sha256OfText } from '../../ts/cache/data/digest.ts';
import { drawsOf } from '../../ts/cache/draws.ts';
import { nativeStore } from '../../ts/cache/native-store.ts';
import { planLatents, planTeacher, planText, serialisePlan } from '../../ts/cache/plan/plans.ts';
import type { LatentsPlan, Plan, TeacherPlan, TextPlan } from '../../ts/cache/plan/types.ts';
import { type Engine, noise, scope, Tensor } from '../../ts/native/index.ts';

/** What a cache that no model made holds: images of 512² with SD1.5's text, a caption for each. */
export interface Synthetic {
  readonly images: number;
  readonly draws: number;
  readonly teachers: readonly string[];
  readonly generator: 'torch' | 'philox';
}

/** The plans of a cache's components. */
export interface Plans {
  readonly latents: LatentsPlan;
  readonly text: TextPlan;
  readonly teachers: readonly TeacherPlan[];
}

const VIEW = '512x512+0+0';
const LATENT = [4, 64, 64] as const;
const TEXT = { tokens: 77, width: 768 } as const;
const TIMESTEPS = 1000;
const BASE_SEED = 42;
/** Seeds of what is no noise, beyond those of any draw here. */
const SEEDS = { latents: 1n << 40n, text: 1n << 41n, error: 1n << 42n } as const;
/** Between the seeds of one teacher's errors and those of the next. */
const OF_A_TEACHER = 1n << 32n;

const component = (name: string) => ({
  weights: { [`${name}.safetensors`]: sha256OfText(name) },
  config: sha256OfText(`${name} config`),
});

/** Plans as `cache build` makes them of so many images. */
export function plansOf({ images, draws, teachers, generator }: Synthetic): Plans {
  const views = Array.from({ length: images }, (_, i) => ({ image: sha256OfText(`image ${i}`), view: VIEW }));
  views.sort((a, b) => (a.image < b.image ? -1 : 1));
  const captions = ['', ...Array.from({ length: images }, (_, i) => caption(i))].sort();
  const samples = views.map((_, view) => ({ view, caption: view + 1 }));
  // What of a scan the plans are made of.
  const scan = { views, captions, samples } as unknown as Parameters<typeof planLatents>[0];
  const vae = { digest: component('vae'), scalingFactor: 0.18215, channels: LATENT[0], downscale: 8 };
  const encoder = { ...component('text'), tokenizer: { 'vocab.json': sha256OfText('vocabulary') } };
  const latents = planLatents(scan, vae, 'f16');
  const text = planText(scan, { encoders: [encoder], shape: TEXT }, 'f16');
  const options = { draws, generator, baseSeed: BASE_SEED, timesteps: [0, TIMESTEPS] as const };
  const teacher = (id: string): TeacherPlan => {
    const unet = {
      digest: component(id),
      prediction: 'epsilon' as const,
      schedule: { timesteps: TIMESTEPS, alphasCumprod: alphasHex() },
      timeIds: false,
      adapters: [],
      storage: 'f32' as const,
    };
    return planTeacher(id, scan, { latents, text }, unet, ['cond'], options, 'f16');
  };
  return { latents, text, teachers: teachers.map(teacher) };
}

/** As long as captions that a model wrote: 60 to 70 characters. */
function caption(index: number): string {
  return `a photograph of a small red house by the sea, number ${index} of its kind`;
}

/** ᾱ of Stable Diffusion: betas linear in their roots. */
function alphasHex(): string {
  const [start, end] = [Math.sqrt(0.000_85), Math.sqrt(0.012)];
  let product = 1;
  const alphas = Float32Array.from({ length: TIMESTEPS }, (_, t) => {
    product *= 1 - (start + ((end - start) * t) / (TIMESTEPS - 1)) ** 2;
    return product;
  });
  return Buffer.from(alphas.buffer).toString('hex');
}

/** Builds a cache whose predictions are plausible: each is the best guess of a share of its noise. */
export async function buildSyntheticCache(engine: Engine, dir: string, plans: Plans): Promise<void> {
  const store = nativeStore(engine);
  const build = async (plan: Plan, field: string, values: (from: number, count: number) => Tensor): Promise<void> => {
    for (const { index, from, to } of await store.begin(dir, plan, false)) {
      const shard = store.createShard(plan, index);
      for (let at = from; at < to; at += ROWS_PER_BATCH) {
        const count = Math.min(ROWS_PER_BATCH, to - at);
        const labels = Array.from({ length: count }, (_, i) => `record ${at + i}`);
        await scope(async () => shard.append(field, values(at, count), labels));
      }
      await shard.finish();
    }
    await store.seal(plan);
    store.end(plan);
  };
  const normals = (base: bigint, shape: readonly number[]) => (from: number, count: number) => {
    const seeds = Array.from({ length: count }, (_, i) => base + BigInt(from + i));
    return noise(engine, { generator: 'philox', seeds, shape });
  };
  await build(plans.latents, 'latents', normals(SEEDS.latents, LATENT));
  await build(plans.text, 'encoder_hidden_states', normals(SEEDS.text, [TEXT.tokens, TEXT.width]));
  for (const [index, plan] of plans.teachers.entries()) {
    const error = normals(SEEDS.error + BigInt(index) * OF_A_TEACHER, LATENT);
    await build(plan, 'cond', (from, count) => {
      const keys = Array.from({ length: count }, (_, i) => {
        const [view = -1] = plan.samples[Math.floor((from + i) / plan.draws)] ?? [];
        const { image = '', view: crop = '' } = plans.latents.views[view] ?? {};
        return { image, view: crop, draw: (from + i) % plan.draws };
      });
      const { seeds, timesteps } = drawsOf(plan, keys);
      const { generator } = plan.noise;
      if (generator === 'stored') throw new RangeError('noise that is made anew is wanted here');
      const shares = Array.from(timesteps, (t) => 0.35 + 0.64 * (t / TIMESTEPS) ** 0.3);
      const column = (numbers: readonly number[]): Tensor => Tensor.fromArray(engine, numbers, [count, 1, 1, 1]);
      const seen = noise(engine, { generator, seeds, shape: LATENT }).mul(column(shares));
      return seen.add(error(from, count).mul(column(shares.map((share) => Math.sqrt(share - share * share)))));
    });
  }
}

/**
 * Writes all of a cache but the records: plans, seals, and shards that are nothing but a length. Reading its index reads what
 * it would of a whole cache.
 */
export async function writeIndex(dir: string, plans: Plans): Promise<void> {
  const sealDigests: Record<string, string> = {};
  for (const plan of [plans.latents, plans.text, ...plans.teachers]) {
    const folder = join(dir, componentName(plan));
    await mkdir(folder, { recursive: true });
    const text = serialisePlan(plan);
    await writeFile(join(folder, PLAN_FILE), text);
    const seal = canonicalJson(sealOf(plan, sha256OfText(text), sealDigests) as unknown as Json);
    await writeFile(join(folder, SEAL_FILE), seal);
    sealDigests[plan.component] = sha256OfText(seal);
    for (const { file, bytes } of sealOf(plan, '', {}).shards) {
      await writeFile(join(folder, file), '');
      await truncate(join(folder, file), bytes);
    }
  }
}

/** A seal of shards that nobody has looked at. */
function sealOf(plan: Plan, planDigest: string, dependencies: Readonly<Record<string, string>>) {
  const values =
    plan.component === 'text' ? TEXT.tokens * TEXT.width : LATENT.reduce((product, side) => product * side, 1);
  const records = recordCount(plan);
  const shards = Array.from({ length: Math.ceil(records / plan.shardRecords) }, (_, index) => {
    const count = Math.min(plan.shardRecords, records - index * plan.shardRecords);
    const file = `shard-${String(index).padStart(5, '0')}.safetensors`;
    return { file, bytes: count * (2 * values + 48), records: count, blake3: sha256OfText(`${index}`) };
  });
  return {
    format: 'potstill-seal',
    version: 1,
    component: componentName(plan),
    plan: planDigest,
    records,
    shards,
    ...(plan.component === 'teacher' ? { dependencies } : {}),
  };
}
