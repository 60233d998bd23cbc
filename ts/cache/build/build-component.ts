import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Progress } from '../../progress.ts';
import { componentName, componentState, recordCount, shardCount } from '../component.ts';
import type { Plan } from '../plan/types.ts';
import type { ComponentStore, ShardWriter } from './store.ts';

/** Computes the records of one component; the only model on the device while it lives. */
export interface Producer {
  /** Computes the records `from` to `to` and appends them to their shard, in order. */
  produce(from: number, to: number, shard: ShardWriter, advance: (records: number) => void): Promise<void>;
  /** Frees the model. */
  dispose(): void;
}

/** What a component's build needs to know. */
export interface ComponentBuild {
  readonly plan: Plan;
  /** What progress calls it: `teacher animals`. */
  readonly label: string;
  /** What is counted, in the plural. */
  readonly unit: string;
  /** Loads the model; called only when a shard is missing. */
  readonly open: () => Promise<Producer>;
}

/** What a build found and made. */
export interface ComponentOutcome {
  /** `latents`, `text`, `teachers/<id>`. */
  readonly name: string;
  readonly records: number;
  /** Shards of this component, all of them there now. */
  readonly shards: number;
  /** Shards that were there already. */
  readonly kept: number;
}

/**
 * Builds what is missing of a component, shard by shard, and seals it. A sealed component of the same plan is left alone;
 * shards that an interrupted build left are checked and kept; a component of another plan is refused.
 *
 * @throws PotstillError `ERR_CACHE_FOREIGN` and what loading, computing and writing give; the signal's reason when it is
 *   aborted, with every finished shard on disk
 */
export async function buildComponent(
  cache: string,
  { plan, label, unit, open }: ComponentBuild,
  store: ComponentStore,
  { progress, signal }: { readonly progress: Progress; readonly signal: AbortSignal },
): Promise<ComponentOutcome> {
  const name = componentName(plan);
  const folder = join(cache, name);
  const records = recordCount(plan);
  const shards = shardCount(plan);
  const state = await componentState(cache, plan);
  if (state === 'sealed') return { name, records, shards, kept: shards };
  if (state === 'absent') await store.begin(folder, plan);
  await removeLeftovers(folder);
  const missing = await missingShards(folder, plan, store, signal);
  if (missing.length > 0) {
    const ranges = missing.map((shard) => ({
      shard,
      from: shard * plan.shardRecords,
      to: Math.min(records, (shard + 1) * plan.shardRecords),
    }));
    using task = progress.start(label, { total: ranges.reduce((sum, { from, to }) => sum + to - from, 0), unit });
    const producer = await open();
    try {
      for (const { shard, from, to } of ranges) {
        signal.throwIfAborted();
        const writer = store.createShard(folder, plan, shard);
        await producer.produce(from, to, writer, (count) => {
          task.advance(count);
          signal.throwIfAborted();
        });
        await writer.finish();
      }
    } finally {
      producer.dispose();
    }
  }
  await store.seal(folder);
  return { name, records, shards, kept: shards - missing.length };
}

async function missingShards(
  folder: string,
  plan: Plan,
  store: ComponentStore,
  signal: AbortSignal,
): Promise<number[]> {
  const missing: number[] = [];
  for (let shard = 0; shard < shardCount(plan); shard += 1) {
    signal.throwIfAborted();
    if (!(await store.isWhole(folder, plan, shard))) missing.push(shard);
  }
  return missing;
}

/** Temporary files that a killed build left: never read, so they only take space. */
async function removeLeftovers(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (name.startsWith('.potstill-') && name.endsWith('.tmp')) await rm(join(folder, name), { force: true });
  }
}
