import { readdirSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';

/** A folder in which CUDA's libraries may lie. */
export interface LibraryFolder {
  readonly path: string;
  /** What says so: `CUDA_PATH`, `toolkit`, `python wheels`. */
  readonly source: string;
}

/** Where toolkits are installed, as `cuda`, `cuda-13.0` … */
const TOOLKITS = '/usr/local';
/** Inside a toolkit. */
const TOOLKIT_FOLDERS = ['lib64', join('targets', 'x86_64-linux', 'lib'), 'lib'];
/** Inside a Python's `site-packages`: all of CUDA 13 in one. */
const WHEEL_FOLDER = join('nvidia', 'cu13', 'lib');

/**
 * Folders that toolkits and Python wheels of CUDA 13 put libraries into, the most explicitly named first. The folders of
 * the driver, of `LD_LIBRARY_PATH` and of the system's loader are not among them: the loader knows those.
 *
 * @param options.toolkits where toolkits are installed, for tests
 */
export function libraryFolders(
  env: Readonly<Record<string, string | undefined>>,
  options: { readonly toolkits?: string } = {},
): readonly LibraryFolder[] {
  const { toolkits = TOOLKITS } = options;
  const named = ['CUDA_PATH', 'CUDA_HOME'].flatMap((source) => {
    const root = env[source];
    return root ? TOOLKIT_FOLDERS.map((folder) => ({ path: join(root, folder), source })) : [];
  });
  const installed = names(toolkits)
    .filter((name) => name === 'cuda' || /^cuda-13(?:\.\d+)?$/.test(name))
    .sort()
    .flatMap((name) =>
      TOOLKIT_FOLDERS.map((folder) => ({ path: join(toolkits, name, folder), source: `toolkit ${name}` })),
    );
  const wheels = sitePackages(env).map((packages) => ({ path: join(packages, WHEEL_FOLDER), source: 'python wheels' }));
  const seen = new Set<string>();
  return [...named, ...installed, ...wheels].filter(({ path }) => !seen.has(path) && seen.add(path));
}

/** `site-packages` of the active environment, of every `python3` on the path, and the user's own. */
function sitePackages(env: Readonly<Record<string, string | undefined>>): string[] {
  const active = [env['VIRTUAL_ENV'], env['CONDA_PREFIX']];
  const onPath = (env['PATH'] ?? '')
    .split(delimiter)
    .filter((folder) => folder !== '' && names(folder).includes('python3'))
    .map(dirname);
  const own = env['HOME'] === undefined ? [] : [join(env['HOME'], '.local')];
  // Debian's system Python keeps what pip installs under /usr/local, in dist-packages.
  const prefixes = [...active, ...onPath, ...(onPath.includes('/usr') ? ['/usr/local'] : []), ...own];
  return prefixes
    .filter((prefix) => prefix !== undefined && prefix !== '')
    .flatMap((prefix) => {
      const versions = names(join(prefix as string, 'lib')).filter((name) => /^python3(?:\.\d+)?$/.test(name));
      return versions.flatMap((version) =>
        ['site-packages', 'dist-packages'].map((folder) => join(prefix as string, 'lib', version, folder)),
      );
    });
}

/** What a folder holds; nothing when it cannot be read. */
function names(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
