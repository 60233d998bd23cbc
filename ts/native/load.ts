import { PotstillError } from '../errors.ts';
import { packageVersion } from '../version.ts';
import { type AddonCandidate, type NativeAddon, tryPlace } from './candidate.ts';
import { type AddonPlace, addonPlaces, platformName } from './platform.ts';

let loaded: NativeAddon | undefined;

/**
 * The native addon, loaded at the first call: the one for CPUs, which serves everything but computing on other devices.
 *
 * @throws PotstillError `ERR_NATIVE_MISSING` or `ERR_NATIVE_VERSION`, with what is wrong with each place
 */
export function addon(): NativeAddon {
  loaded ??= withKernels(chooseAddon(addonPlaces(platformName()), packageVersion()));
  return loaded;
}

/** The variable that makes an addon use another class of kernels than the processor's best. */
const KERNELS = 'POTSTILL_KERNELS';
/** The classes that there are, on all processors together. */
const KERNEL_CLASSES = ['sse', 'avx2', 'avx512', 'neon'];

/**
 * Makes the addon use the kernels that the environment names.
 *
 * @throws PotstillError `ERR_KERNELS` for a name that is none, or that this processor lacks
 */
export function withKernels(native: NativeAddon, name = process.env[KERNELS] ?? ''): NativeAddon {
  if (name === '' || native.useKernels(name)) return native;
  const classes = native.kernelClasses().join(', ');
  const known = KERNEL_CLASSES.includes(name);
  throw new PotstillError({
    code: 'ERR_KERNELS',
    kind: known ? 'machine' : 'input',
    what: known ? `this processor has no ${name} kernels` : `there are no ${JSON.stringify(name)} kernels`,
    where: KERNELS,
    remedy: `Unset it, or choose one of: ${classes}.`,
  });
}

/** Every place where the addon is looked for and what was found there, for `doctor`. */
export function addonCandidates(): readonly AddonCandidate[] {
  return addonPlaces(platformName()).map((place) => tryPlace(place, packageVersion(), 'cpu').candidate);
}

/** The first addon of a version among places. */
export function chooseAddon(places: readonly AddonPlace[], version: string): NativeAddon {
  const tried: AddonCandidate[] = [];
  for (const place of places) {
    const { addon: found, candidate } = tryPlace(place, version, 'cpu');
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
