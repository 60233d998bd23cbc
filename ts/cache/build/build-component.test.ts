import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Tensor } from '../../native/tensor.ts';
import { silentProgress } from '../../progress.ts';
import { serialisePlan } from '../plan/plans.ts';
import type { TextPlan } from '../plan/types.ts';
import { buildComponent, type ComponentBuild } from './build-component.ts';
import type { ComponentStore } from './store.ts';

const shardFile = (index: number): string => `shard-${index}`;

/** Five records in shards of two. */
const plan: TextPlan = {
  format: 'potstill-cache',
  version: 1,
  component: 'text',
  dtype: 'f16',
  shardRecords: 2,
  encoders: [],
  shape: { tokens: 77, width: 64 },
  captions: ['', 'a', 'b', 'c', 'd'],
};

/** Shards as text files of their record numbers; a file that says "damaged" is not whole. */
const store: ComponentStore = {
  begin: async (cache, wanted) => {
    const folder = join(cache, 'text');
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'plan.json'), serialisePlan(wanted));
    const whole = async (index: number): Promise<boolean> => {
      const text = await readFile(join(folder, shardFile(index)), 'utf8').catch(() => 'damaged');
      return text !== 'damaged';
    };
    const ranges = [0, 1, 2].map(async (index) => ({
      index,
      from: index * 2,
      to: Math.min(5, index * 2 + 2),
      whole: await whole(index),
    }));
    return Promise.all(ranges);
  },
  isWhole: async (_, index) => {
    const file = join(cache, 'text', shardFile(index));
    return existsSync(file) && readFileSync(file, 'utf8') !== 'damaged';
  },
  createShard: (_, index) => {
    const records: string[] = [];
    return {
      append: async (_field, _values, labels) => {
        records.push(...labels);
      },
      finish: () => writeFile(join(cache, 'text', shardFile(index)), records.join()),
    };
  },
  seal: () => writeFile(join(cache, 'text', 'seal.json'), '{}'),
  end: () => {
    ended += 1;
  },
};

let cache: string;
let produced: number[];
let disposed: number;
let ended: number;
beforeEach(async () => {
  cache = await mkdtemp(join(tmpdir(), 'potstill-build-'));
  produced = [];
  disposed = 0;
  ended = 0;
});
afterEach(() => rm(cache, { recursive: true }));

function build(failAt = Number.POSITIVE_INFINITY): ComponentBuild {
  return {
    plan,
    label: 'text',
    unit: 'captions',
    open: async () => ({
      produce: async (from, to, shard, advance) => {
        for (let record = from; record < to; record += 1) {
          if (record === failAt) throw new Error('killed');
          await shard.append('field', undefined as unknown as Tensor, [String(record)]);
          produced.push(record);
          advance(1);
        }
      },
      dispose: () => {
        disposed += 1;
      },
    }),
  };
}

const run = (component: ComponentBuild, signal = new AbortController().signal): ReturnType<typeof buildComponent> =>
  buildComponent(cache, component, store, { progress: silentProgress, signal });

describe('buildComponent', () => {
  it('builds, seals, and then leaves alone', async () => {
    expect(await run(build())).toEqual({ name: 'text', records: 5, computed: 5, missing: 0, sealed: true });
    const text = (name: string): Promise<string> => readFile(join(cache, 'text', name), 'utf8');
    expect(await Promise.all([0, 1, 2].map((shard) => text(shardFile(shard))))).toEqual(['0,1', '2,3', '4']);
    expect(await run(build(0))).toMatchObject({ computed: 0 });
    expect([disposed, ended]).toEqual([1, 1]);
  });

  it('goes on after a kill with the shards that are whole', async () => {
    await expect(run(build(3))).rejects.toThrow('killed');
    expect([disposed, ended]).toEqual([1, 1]);
    produced = [];
    expect(await run(build())).toMatchObject({ computed: 3 });
    expect(produced).toEqual([2, 3, 4]);
    expect((await readdir(join(cache, 'text'))).sort()).toEqual([
      'plan.json',
      'seal.json',
      ...[0, 1, 2].map(shardFile),
    ]);
  });

  it('builds a damaged shard anew', async () => {
    await expect(run(build(4))).rejects.toThrow('killed');
    await writeFile(join(cache, 'text', shardFile(0)), 'damaged');
    produced = [];
    expect(await run(build())).toMatchObject({ computed: 3 });
    expect(produced).toEqual([0, 1, 4]);
  });

  it('ends at an interruption with the finished shards', async () => {
    const controller = new AbortController();
    const component = build();
    const open = component.open;
    const interrupting: ComponentBuild = {
      ...component,
      open: async () => {
        const producer = await open();
        return {
          ...producer,
          produce: (from, to, shard, advance) => {
            if (from === 2) controller.abort(new Error('stop'));
            return producer.produce(from, to, shard, advance);
          },
        };
      },
    };
    await expect(run(interrupting, controller.signal)).rejects.toThrow('stop');
    expect((await readdir(join(cache, 'text'))).sort()).toEqual(['plan.json', shardFile(0)]);
    expect(disposed).toBe(1);
  });

  it('takes it as done when another build seals it before this one begins', async () => {
    const overtaken: ComponentStore = {
      ...store,
      begin: async (folder, wanted, isPart) => {
        await store.begin(folder, wanted, isPart);
        await store.seal(wanted);
        throw new Error('text is sealed and cannot be written');
      },
    };
    const options = { progress: silentProgress, signal: new AbortController().signal };
    expect(await buildComponent(cache, build(0), overtaken, options)).toMatchObject({ name: 'text', computed: 0 });
    expect([disposed, ended]).toEqual([0, 0]);
  });

  it('passes on why it could not begin', async () => {
    const failing: ComponentStore = { ...store, begin: () => Promise.reject(new Error('busy')) };
    const options = { progress: silentProgress, signal: new AbortController().signal };
    await expect(buildComponent(cache, build(0), failing, options)).rejects.toThrow('busy');
  });

  it('refuses a component of another plan before anything is loaded', async () => {
    await store.begin(cache, { ...plan, captions: ['', 'x'] }, false);
    await expect(run(build(0))).rejects.toMatchObject({ code: 'ERR_CACHE_FOREIGN' });
    expect(disposed).toBe(0);
  });
});
