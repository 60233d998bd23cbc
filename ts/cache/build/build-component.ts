import type { Progress, ProgressTask } from '../../progress.ts';
import { componentName, componentState, recordCount } from '../component.ts';
import type { Plan } from '../plan/types.ts';
import type { ComponentStore, ShardState, ShardWriter } from './store.ts';

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
  /** Records of this component, all of them there now. */
  readonly records: number;
  /** Records that this build computed; the others were there already. */
  readonly computed: number;
}

/**
 * Builds what is missing of a component, shard by shard, and seals it. A sealed component of the same plan is left alone;
 * shards that an interrupted build left are checked and kept; a component of another plan is refused.
 *
 * @throws PotstillError `ERR_CACHE_FOREIGN`; `ERR_CACHE_BUSY` while another build is at work on it; and what loading, computing and writing give; the signal's reason when it is
 *   aborted, with every finished shard on disk
 */
export async function buildComponent(
  cache: string,
  { plan, label, unit, open }: ComponentBuild,
  store: ComponentStore,
  { progress, signal }: { readonly progress: Progress; readonly signal: AbortSignal },
): Promise<ComponentOutcome> {
  const outcome = { name: componentName(plan), records: recordCount(plan) };
  const shards = await beginUnlessSealed(cache, plan, store);
  if (shards === 'sealed') return { ...outcome, computed: 0 };
  try {
    const missing = shards.filter(({ whole }) => !whole);
    const computed = missing.reduce((sum, { from, to }) => sum + to - from, 0);
    if (missing.length > 0) {
      using task = progress.start(label, { total: computed, unit });
      await produceShards({ plan, open }, missing, store, task, signal);
    }
    await store.seal(plan);
    return { ...outcome, computed };
  } finally {
    store.end(plan);
  }
}

/** Another build may seal the component between a look at it and the beginning here: then there is nothing left to do. */
async function beginUnlessSealed(
  cache: string,
  plan: Plan,
  store: ComponentStore,
): Promise<readonly ShardState[] | 'sealed'> {
  if ((await componentState(cache, plan)) === 'sealed') return 'sealed';
  try {
    return await store.begin(cache, plan);
  } catch (error) {
    if ((await componentState(cache, plan)) === 'sealed') return 'sealed';
    throw error;
  }
}

async function produceShards(
  { plan, open }: Pick<ComponentBuild, 'plan' | 'open'>,
  missing: readonly ShardState[],
  store: ComponentStore,
  task: ProgressTask,
  signal: AbortSignal,
): Promise<void> {
  const producer = await open();
  try {
    for (const { index, from, to } of missing) {
      signal.throwIfAborted();
      const shard = store.createShard(plan, index);
      await producer.produce(from, to, shard, (records) => {
        task.advance(records);
        signal.throwIfAborted();
      });
      await shard.finish();
    }
  } finally {
    producer.dispose();
  }
}
