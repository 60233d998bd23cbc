import type * as Addon from './generated/binding.js';
import type { AddonPlace } from './platform.ts';

/** What the addon exports. */
export type NativeAddon = typeof Addon;

/** One place where an addon was looked for. */
export interface AddonCandidate {
  readonly backend: 'cpu' | 'cuda';
  /** Package or file. */
  readonly source: string;
  /** Is it there, loadable and of this version? The first such one is used. */
  readonly loaded: boolean;
  readonly version?: string;
  /** Which of the CPU's instruction sets its kernels use. */
  readonly kernelClass?: string;
  /** Why it cannot be used. */
  readonly reason?: string;
}

/** Loads the addon of a place and checks that it is what it is taken for. */
export function tryPlace(
  place: AddonPlace,
  version: string,
  backend: AddonCandidate['backend'],
): { addon?: NativeAddon; candidate: AddonCandidate } {
  const { source } = place;
  const rejected = (reason: string): AddonCandidate => ({ backend, source, loaded: false, reason });
  let found: NativeAddon;
  try {
    found = place.load() as NativeAddon;
  } catch (thrown) {
    const reason = thrown instanceof Error ? (thrown.message.split('\n')[0] ?? '') : String(thrown);
    return { candidate: rejected(reason) };
  }
  const its = typeof found.version === 'function' ? found.version() : 'unknown';
  if (its !== version) {
    return { candidate: { ...rejected(`it is version ${its}, potstill is ${version}`), version: its } };
  }
  if (backend === 'cuda' && !found.hasCuda()) return { candidate: rejected('it was built without CUDA') };
  const kernelClass = found.kernelClass();
  return { addon: found, candidate: { backend, source, loaded: true, version: its, kernelClass } };
}
