import { readFile, stat } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { machineError } from '../errors.ts';

/** Types that the site has; browsers take scripts and WASM under no others. */
const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.wasm': 'application/wasm',
};

/** A file of the site. */
export interface SiteFile {
  readonly type: string;
  readonly bytes: Buffer;
}

/** The static build of the page, as `npm run build` leaves it. */
export class Site {
  readonly #root: string;

  private constructor(root: string) {
    this.#root = root;
  }

  /**
   * The site that was built with this code.
   *
   * @throws PotstillError `ERR_PAGE_MISSING`
   */
  static async open(): Promise<Site> {
    // Beside this file's folder when built; in a clone, run from its TypeScript, in the build.
    const here = import.meta.url.endsWith('.ts') ? '../../dist/verify-page/' : '../verify-page/';
    const root = fileURLToPath(new URL(here, import.meta.url));
    if (await stat(join(root, 'index.html')).catch(() => undefined)) return new Site(root);
    throw machineError('ERR_PAGE_MISSING', 'the page that verifies is not there', {
      where: root,
      remedy: 'Install potstill again (in a clone: `npm run build`).',
    });
  }

  /** A file by the path of an address; undefined where there is none. */
  async file(path: string): Promise<SiteFile | undefined> {
    const name = path === '/' ? 'index.html' : path.slice(1);
    const type = TYPES[extname(name)];
    if (type === undefined || !name.split('/').every(isPlain)) return undefined;
    const bytes = await readFile(join(this.#root, name)).catch(() => undefined);
    return bytes && { type, bytes };
  }
}

/** A name that stays where it is. */
const isPlain = (part: string): boolean => /^[\w-][\w.-]*$/.test(part);
