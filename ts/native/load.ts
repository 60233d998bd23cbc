import { availableParallelism } from 'node:os';
import { inputError, PotstillError } from '../errors.ts';
import { packageVersion } from '../version.ts';
import { Engine } from './engine.ts';
import type * as Addon from './generated/binding.js';
import { type AddonPlace, addonPlaces, platformName } from './platform.ts';

/** One place where the addon was looked for. */
export interface AddonCandidate {
  readonly backend: 'cpu';
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

/** What the addon exports. */
export type NativeAddon = typeof Addon;

let loaded: NativeAddon | undefined;

/**
 * The native addon, loaded at the first call.
 *
 * @throws PotstillError `ERR_NATIVE_MISSING` or `ERR_NATIVE_VERSION`, with what is wrong with each place
 */
export function addon(): NativeAddon {
  loaded ??= chooseAddon(addonPlaces(platformName()), packageVersion());
  return loaded;
}

/** Every place where the addon is looked for and what was found there, for `doctor`. */
export function addonCandidates(): readonly AddonCandidate[] {
  return addonPlaces(platformName()).map((place) => tryPlace(place, packageVersion()).candidate);
}

/** The first addon of a version among places. */
export function chooseAddon(places: readonly AddonPlace[], version: string): NativeAddon {
  const tried: AddonCandidate[] = [];
  for (const place of places) {
    const { addon: found, candidate } = tryPlace(place, version);
    if (found !== undefined) return found;
    tried.push(candidate);
  }
  const wrongVersion = tried.some((candidate) => candidate.version !== undefined);
  throw new PotstillError({
    code: wrongVersion ? 'ERR_NATIVE_VERSION' : 'ERR_NATIVE_MISSING',
    kind: 'machine',
    what: `the native addon cannot be used: ${tried.map(({ source, reason }) => `${source}: ${reason}`).join('; ')}`,
    where: `platform ${platformName()}`,
    remedy: `Run \`npm install @potstill/native-${platformName()}@${version}\` (in a clone: \`npm run setup\`).`,
  });
}

function tryPlace(place: AddonPlace, version: string): { addon?: NativeAddon; candidate: AddonCandidate } {
  const { source } = place;
  const rejected = (reason: string): AddonCandidate => ({ backend: 'cpu', source, loaded: false, reason });
  let found: NativeAddon;
  try {
    found = place.load() as NativeAddon;
  } catch (thrown) {
    const reason = thrown instanceof Error ? (thrown.message.split('\n')[0] ?? '') : String(thrown);
    return { candidate: rejected(reason) };
  }
  const its = typeof found.version === 'function' ? found.version() : 'unknown';
  if (its === version) {
    const kernelClass = found.kernelClass();
    return { addon: found, candidate: { backend: 'cpu', source, loaded: true, version: its, kernelClass } };
  }
  return { candidate: { ...rejected(`it is version ${its}, potstill is ${version}`), version: its } };
}

/** Most threads that one operation may be given: more than any machine has. */
const MAX_THREADS = 1024;

/**
 * Starts an engine.
 *
 * @throws PotstillError when the addon is missing or the number of threads is none
 */
export async function loadEngine(
  options: { readonly device?: 'cpu'; readonly threads?: number | undefined } = {},
): Promise<Engine> {
  const { threads = availableParallelism() } = options;
  if (!Number.isInteger(threads) || threads < 1 || threads > MAX_THREADS) {
    throw inputError('ERR_THREADS', `${threads} is no number of threads`, { remedy: 'Give a whole number from 1 on.' });
  }
  const native = addon();
  return new Engine(new native.Engine(threads), native.kernelClass());
}
