import type { Progress, ProgressTask } from '../../progress.ts';
import { componentName, componentState, recordCount } from '../component.ts';
import type { Plan } from '../plan/types.ts';
import { isOwn, type Part, toHelpWith } from './part.ts';
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
  /** Records of this component. */
  readonly records: number;
  /** Records that this build computed; the others were there already, or are those of other parts. */
  readonly computed: number;
  /** Records that are not there yet: of a build in parts, those of the other parts. */
  readonly missing: number;
  /** Whether it has its seal. */
  readonly sealed: boolean;
}

/** How a component is built. */
export interface ComponentBuildOptions {
  readonly progress: Progress;
  readonly signal: AbortSignal;
  /** Which part of it; all of it by default. */
  readonly part?: Part | undefined;
}

/**
 * Builds what is missing of a component, shard by shard, and seals it. A sealed component of the same plan is left alone;
 * shards that an interrupted build left are checked and kept; a component of another plan is refused.
 *
 * A part builds the shards that are its own. Latents and text, which every teacher's part reads and which are little beside
 * predictions, it then makes complete, whatever other parts have not written yet, and seals: so no part waits for another.
 * A teacher it leaves to be sealed when all parts have ended.
 *
 * @throws PotstillError `ERR_CACHE_FOREIGN`; `ERR_CACHE_BUSY` while another build is at work on it; and what loading, computing and writing give; the signal's reason when it is
 *   aborted, with every finished shard on disk
 */
export async function buildComponent(
  cache: string,
  build: ComponentBuild,
  store: ComponentStore,
  { progress, signal, part }: ComponentBuildOptions,
): Promise<ComponentOutcome> {
  const { plan } = build;
  const outcome = { name: componentName(plan), records: recordCount(plan) };
  const shards = await beginUnlessSealed(cache, plan, store, part !== undefined);
  if (shards === 'sealed') return { ...outcome, computed: 0, missing: 0, sealed: true };
  try {
    const work = new ShardWork(build, store, { progress, signal });
    await work.run(shards.filter(({ index, whole }) => !whole && (part === undefined || isOwn(part, index))));
    const isCompleted = part === undefined || plan.component !== 'teacher';
    if (part !== undefined && isCompleted) await work.run(toHelpWith(part, shards));
    if (isCompleted) await sealOnce(cache, plan, store);
    const missing = isCompleted ? 0 : countOf(await missingAmong(shards, plan, store));
    return { ...outcome, computed: work.computed, missing, sealed: isCompleted };
  } finally {
    store.end(plan);
  }
}

/** Shards that are not there by now. */
async function missingAmong(
  shards: readonly ShardState[],
  plan: Plan,
  store: ComponentStore,
): Promise<readonly ShardState[]> {
  const missing: ShardState[] = [];
  for (const shard of shards) if (!(await store.isWhole(plan, shard.index))) missing.push(shard);
  return missing;
}

function countOf(shards: readonly ShardState[]): number {
  return shards.reduce((sum, { from, to }) => sum + to - from, 0);
}

/** Of parts that see the last shard at the same time, each seals it the same way, and one may come late. */
async function sealOnce(cache: string, plan: Plan, store: ComponentStore): Promise<void> {
  try {
    await store.seal(plan);
  } catch (error) {
    if ((await componentState(cache, plan)) !== 'sealed') throw error;
  }
}

/** Another build may seal the component between a look at it and the beginning here: then there is nothing left to do. */
async function beginUnlessSealed(
  cache: string,
  plan: Plan,
  store: ComponentStore,
  isPart: boolean,
): Promise<readonly ShardState[] | 'sealed'> {
  if ((await componentState(cache, plan)) === 'sealed') return 'sealed';
  try {
    return await store.begin(cache, plan, isPart);
  } catch (error) {
    if ((await componentState(cache, plan)) === 'sealed') return 'sealed';
    throw error;
  }
}

/** Computes shards of a component, with its model loaded while there are any to compute. */
class ShardWork {
  /** Records computed so far. */
  computed = 0;
  readonly #build: ComponentBuild;
  readonly #store: ComponentStore;
  readonly #options: Pick<ComponentBuildOptions, 'progress' | 'signal'>;

  constructor(
    build: ComponentBuild,
    store: ComponentStore,
    options: Pick<ComponentBuildOptions, 'progress' | 'signal'>,
  ) {
    this.#build = build;
    this.#store = store;
    this.#options = options;
  }

  /** Computes those of the shards that are not there when their turn comes. */
  async run(shards: readonly ShardState[]): Promise<void> {
    const { plan, label, unit, open } = this.#build;
    const { progress, signal } = this.#options;
    const missing = await missingAmong(shards, plan, this.#store);
    if (missing.length === 0) return;
    using task = progress.start(label, { total: countOf(missing), unit });
    const producer = await open();
    try {
      for (const { index, from, to } of missing) {
        signal.throwIfAborted();
        if (await this.#store.isWhole(plan, index)) continue;
        await this.#produce(producer, { index, from, to }, task);
      }
    } finally {
      producer.dispose();
    }
  }

  async #produce(
    producer: Producer,
    { index, from, to }: Omit<ShardState, 'whole'>,
    task: ProgressTask,
  ): Promise<void> {
    const shard = this.#store.createShard(this.#build.plan, index);
    await producer.produce(from, to, shard, (records) => {
      task.advance(records);
      this.#options.signal.throwIfAborted();
    });
    await shard.finish();
    this.computed += to - from;
  }
}
