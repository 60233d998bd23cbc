import { createHash } from 'node:crypto';
import { cpSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { halves, viewSafetensors } from '../../test/support/safetensors.ts';
import { makeTinyProject, type TinyProject } from '../../test/support/tiny-project.ts';
import { type Engine, loadEngine, scope, type Tensor } from '../native/index.ts';
import { ensureCache } from './ensure-cache.ts';
import type { OpenedCache } from './opened-cache.ts';

/** Records of a shard, and draws of a view: the project's and the plan's. */
const SHARD_RECORDS = 64;
const DRAWS = 12;

let engine: Engine;
let project: TinyProject;
let cache: OpenedCache;

beforeAll(async () => {
  engine = await loadEngine();
  project = await makeTinyProject(engine);
  cache = await ensureCache(await project.recipe('data[0].captionDropout=0.1'), engine);
});
afterAll(() => project[Symbol.dispose]());

/** A record as Python's safetensors would read it. */
function stored(component: string, field: string, record: number): number[] {
  const shard = String(Math.floor(record / SHARD_RECORDS)).padStart(5, '0');
  const file = readFileSync(join(project.folder, 'cache', component, `shard-${shard}.safetensors`));
  const tensor = viewSafetensors(file).get(field);
  if (tensor === undefined) throw new RangeError(`no ${field}`);
  const size = tensor.bytes.length / (tensor.shape[0] ?? 1);
  const at = (record % SHARD_RECORDS) * size;
  return halves({ ...tensor, bytes: tensor.bytes.subarray(at, at + size) });
}

async function rows(tensor: Tensor | undefined): Promise<number[][]> {
  if (tensor === undefined) throw new RangeError('no tensor');
  const values = [...(await tensor.toArray())];
  const [count = 0] = tensor.shape;
  const size = values.length / count;
  return Array.from({ length: count }, (_, row) => values.slice(row * size, (row + 1) * size));
}

describe('OpenedCache', () => {
  it('knows its samples by content', () => {
    expect(cache.samples).toHaveLength(6);
    expect(cache.draws).toBe(DRAWS);
    const [sample] = cache.samples;
    const picture = readFileSync(join(project.folder, 'pictures/1f32d.png'));
    const image = createHash('sha256').update(picture).digest('hex');
    expect(sample).toMatchObject({ image, key: `${image}|64x64+0+0|hot dog`, repeats: 1, captionDropout: 0.1 });
  });

  it.each([
    ['when it is asked to', false],
    ['ahead', true],
  ])('reads what lies in the files, in any order, %s', async (_, ahead) => {
    const requests = [
      { sample: 4, draw: 11, unconditional: false },
      { sample: 0, draw: 0, unconditional: true },
      { sample: 2, draw: 7, unconditional: false },
    ];
    if (ahead) cache.readAhead(requests, ['cond', 'uncond']);
    await scope(async () => {
      const batch = cache.batch(requests, ['cond', 'uncond']);
      const [latents, text] = [await rows(batch.latents), await rows(batch.text.encoderHiddenStates)];
      expect(batch.latents.shape).toEqual([3, 4, 8, 8]);
      expect(batch.text.encoderHiddenStates.shape).toEqual([3, 77, 32]);
      for (const [row, { sample, draw, unconditional }] of requests.entries()) {
        const picked = cache.samples[sample] ?? { view: -1, caption: -1, sample: -1 };
        expect(latents[row]).toEqual(stored('latents', 'latents', picked.view));
        expect(text[row]).toEqual(stored('text', 'encoder_hidden_states', unconditional ? 0 : picked.caption));
        for (const { id, cond, uncond } of batch.teachers) {
          const record = picked.sample * DRAWS + draw;
          const field = unconditional ? 'uncond' : 'cond';
          expect((await rows(cond))[row]).toEqual(stored(`teachers/${id}`, field, record));
          expect((await rows(uncond))[row]).toEqual(stored(`teachers/${id}`, 'uncond', record));
        }
      }
      expect(batch.teachers.map(({ id, kind }) => [id, kind])).toEqual([
        ['first', 'epsilon'],
        ['second', 'epsilon'],
      ]);
    });
  });

  it('gives the draws that the shards name, one noise for all teachers', async () => {
    const file = readFileSync(join(project.folder, 'cache/teachers/second/shard-00000.safetensors'));
    const tensors = viewSafetensors(file);
    const sample = cache.samples.findIndex((one) => one.sample === 1);
    await scope(async () => {
      const requests = [3, 4].map((draw) => ({ sample, draw, unconditional: false }));
      const { noise, timesteps } = cache.batch(requests, ['cond']);
      const first = DRAWS + 3;
      expect([...(timesteps ?? [])]).toEqual(
        [first, first + 1].map((record) => Number(tensors.get('timestep')?.bytes.readBigInt64LE(8 * record))),
      );
      const [one = [], other = []] = await rows(noise);
      expect(one).not.toEqual(other);
      const variance = one.reduce((sum, value) => sum + value * value, 0) / one.length;
      expect(Math.abs(variance - 1)).toBeLessThan(0.4);
    });
  });

  it('reads no draws for a method that reads no predictions', async () => {
    await scope(async () => {
      const batch = cache.batch([{ sample: 0, draw: 0, unconditional: false }], []);
      expect([batch.noise, batch.timesteps, batch.teachers]).toEqual([undefined, undefined, []]);
      await batch.latents.toArray();
    });
  });
});

describe('ensureCache', () => {
  it('refuses a cache that is damaged', async () => {
    const folder = join(project.folder, 'cut');
    cpSync(join(project.folder, 'cache'), folder, { recursive: true });
    truncateSync(join(folder, 'teachers/first/shard-00001.safetensors'), 2000);
    await expect(ensureCache(await project.recipe(`cache.dir=${folder}`), engine)).rejects.toMatchObject({
      code: 'ERR_CACHE_DAMAGED',
      kind: 'check',
      where: join(folder, 'teachers/first/shard-00001.safetensors'),
    });
  });

  it('does not mind an unfinished teacher of another recipe beside its own', async () => {
    const folder = join(project.folder, 'beside');
    cpSync(join(project.folder, 'cache'), folder, { recursive: true });
    cpSync(join(folder, 'teachers/first'), join(folder, 'teachers/third'), { recursive: true });
    rmSync(join(folder, 'teachers/third/seal.json'));
    const recipe = await project.recipe('data[0].captionDropout=0.1', `cache.dir=${folder}`);
    expect((await ensureCache(recipe, engine)).samples).toHaveLength(6);
  });

  it('builds no teacher for a method that reads none, and keeps both predictions where captions are dropped', async () => {
    const alone = await project.recipe('method={"id":"denoise"}', `cache.dir=${join(project.folder, 'alone')}`);
    expect((await ensureCache(alone, engine)).plans.teachers).toEqual([]);
    const { plans } = await ensureCache(
      await project.recipe(
        'method={"id":"multi-teacher"}',
        'data[0].captionDropout=0.2',
        'cache.draws=1',
        `cache.dir=${join(project.folder, 'dropped')}`,
      ),
      engine,
    );
    expect(plans.teachers[0]?.plan.fields).toEqual(['cond', 'uncond']);
  });
});
