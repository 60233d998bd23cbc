import type { CacheCoverage } from '../native/generated/binding.js';
import { addon } from '../native/load.ts';
import { unwrap } from '../native/outcome.ts';
import { type Progress, silentProgress } from '../progress.ts';

/** What sealing came to for one component. */
export interface SealedComponent extends Omit<CacheCoverage, 'state'> {
  /** `latents`, `text`, `teachers/<id>`. */
  readonly component: string;
  /**
   * Sealed `now`, or `before`; `incomplete` where shards are `missing`; `waiting` where latents or text, which it was made
   * on, are.
   */
  readonly state: 'now' | 'before' | 'incomplete' | 'waiting';
}

/** How to seal. */
export interface SealOptions {
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Components that teachers are made on. */
const SHARED: readonly string[] = ['latents', 'text'];

/**
 * Joins the parts of a build: seals every component of a cache whose shards are all there. Each is read whole; that the
 * records are those of its plan, every one once, is held against their keys, and its BLAKE3 goes into the seal. What is
 * incomplete is told and left as it is.
 *
 * @throws PotstillError `ERR_CACHE_MISSING` when there is no cache; `ERR_CACHE_SHARD` naming a shard that is damaged or not
 *   the plan's; `ERR_CACHE_BUSY` while a component is being built
 */
export async function sealCache(
  dir: string,
  { progress = silentProgress, signal }: SealOptions = {},
): Promise<readonly SealedComponent[]> {
  const { cacheComponents, sealCache: seal } = addon();
  const components = unwrap(await cacheComponents(dir));
  using task = progress.start('sealing', { total: components.length, unit: 'components' });
  const outcomes: SealedComponent[] = [];
  for (const component of components) {
    signal?.throwIfAborted();
    const isWaiting = component.startsWith('teachers/') && outcomes.some(isOpen);
    const { state, ...found } = unwrap(await seal(dir, component, isWaiting));
    const named = state === 'sealed' ? 'now' : state === 'complete' ? 'waiting' : state;
    outcomes.push({ component, ...found, state: named });
    task.advance();
  }
  return outcomes;
}

function isOpen({ component, state }: SealedComponent): boolean {
  return SHARED.includes(component) && state === 'incomplete';
}
