import type { Engine } from '../native/engine.ts';
import type { CacheBuilder } from '../native/generated/binding.js';
import { unwrap } from '../native/outcome.ts';
import type { ComponentStore } from './build/store.ts';
import { componentName } from './component.ts';
import { serialisePlan } from './plan/plans.ts';

/** Components on disk, written by the addon with values from an engine's thread. */
export function nativeStore(engine: Engine): ComponentStore {
  const builders = new Map<string, CacheBuilder>();
  const builderOf = (name: string): CacheBuilder => {
    const builder = builders.get(name);
    if (builder === undefined) throw new RangeError(`${name} was not begun`);
    return builder;
  };
  return {
    begin: async (cache, plan, isPart) => {
      const builder = unwrap(await engine.addon.beginCache(cache, serialisePlan(plan), isPart));
      builders.set(componentName(plan), builder);
      return builder.shards;
    },
    isWhole: async (plan, index) => unwrap(await builderOf(componentName(plan)).isWhole(index)),
    createShard: (plan, index) => {
      const shard = unwrap(builderOf(componentName(plan)).shard(index));
      return {
        append: async (field, values, labels) => {
          unwrap(await engine.native.appendToCache(shard, field, values.id, [...labels]));
        },
        finish: async () => {
          unwrap(await shard.finish());
        },
      };
    },
    seal: async (plan) => {
      unwrap(await builderOf(componentName(plan)).seal());
    },
    end: (plan) => builderOf(componentName(plan)).end(),
  };
}
