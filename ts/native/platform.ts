import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

/** The platform's name in the names of addons, as napi-rs writes it: `linux-x64-gnu`, `darwin-arm64` … */
export function platformName(): string {
  const { platform, arch } = process;
  if (platform === 'linux') return `linux-${arch}-${isMusl() ? 'musl' : 'gnu'}`;
  return platform === 'win32' ? `win32-${arch}-msvc` : `${platform}-${arch}`;
}

/** Node's report names the C library's version when it is glibc. */
function isMusl(): boolean {
  const report = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  return report.header?.glibcVersionRuntime === undefined;
}

/** Where an addon may be, in the order in which they are tried. */
export interface AddonPlace {
  /** Package or file, for people. */
  readonly source: string;
  /** Is there anything to load? */
  readonly exists: () => boolean;
  /** Loads it, or throws. */
  readonly load: () => unknown;
}

/**
 * A build of this clone, then the platform's package.
 *
 * @param backend whose addon: the CPU's serves everything but computing on NVIDIA's devices
 */
export function addonPlaces(platform: string, backend: 'cpu' | 'cuda' = 'cpu'): readonly AddonPlace[] {
  const require = createRequire(import.meta.url);
  const [binary, name] = backend === 'cpu' ? ['potstill', 'native'] : ['potstill-cuda', 'native-cuda13'];
  // The same file from ts/native and from dist/native; a published package has no ts/.
  const file = fileURLToPath(new URL(`../../ts/native/generated/${binary}.${platform}.node`, import.meta.url));
  const source = `@potstill/${name}-${platform}`;
  return [
    { source: 'local build', exists: () => existsSync(file), load: () => require(file) as unknown },
    { source, exists: () => resolves(require, source), load: () => require(source) as unknown },
  ];
}

function resolves(require: NodeJS.Require, name: string): boolean {
  try {
    require.resolve(name);
    return true;
  } catch {
    return false;
  }
}
