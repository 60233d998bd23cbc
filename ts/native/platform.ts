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
  /** Loads it, or throws. */
  readonly load: () => unknown;
}

/** A build of this clone, then the platform's package. */
export function addonPlaces(platform: string): readonly AddonPlace[] {
  const require = createRequire(import.meta.url);
  // The same file from ts/native and from dist/native; a published package has no ts/.
  const file = fileURLToPath(new URL(`../../ts/native/generated/potstill.${platform}.node`, import.meta.url));
  const name = `@potstill/native-${platform}`;
  return [
    { source: 'local build', load: () => require(file) as unknown },
    { source: name, load: () => require(name) as unknown },
  ];
}
