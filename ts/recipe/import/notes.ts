import { existsSync } from 'node:fs';
import { dirname, relative, resolve, sep } from 'node:path';

/** Something of the configs that a recipe says otherwise, or not at all. */
export interface ImportNote {
  /** Stable name of the kind. */
  readonly code:
    | 'fill-in'
    | 'text-source'
    | 'time-ids'
    | 'buckets'
    | 'cache'
    | 'hub-model'
    | 'loss'
    | 'value-changed'
    | 'not-imported';
  /** Path in the recipe, or in the config that the note is about. */
  readonly path: string;
  readonly what: string;
}

/** How to import. */
export interface ImportOptions {
  /** Folder that relative paths of the configs start at; the working folder when left out. */
  readonly base?: string | undefined;
  /** Where the recipe will lie: its paths are relative to that; the working folder when left out. */
  readonly out?: string | undefined;
}

/** Begins the path of what no config says. */
const FILL_IN = 'FILL-IN';

/** Collects what is to be said of an import, and writes its paths. */
export class Notes {
  readonly list: ImportNote[] = [];
  readonly #base: string;
  readonly #folder: string;

  constructor({ base = '.', out }: ImportOptions) {
    this.#base = resolve(base);
    this.#folder = out === undefined ? process.cwd() : dirname(resolve(out));
  }

  note(code: ImportNote['code'], path: string, what: string): void {
    this.list.push({ code, path, what });
  }

  /** Where a path of the configs leads. */
  resolved(path: string): string {
    return resolve(this.#base, path);
  }

  /** A path relative to the recipe, with `/` between the parts. */
  path(path: string): string {
    const from = relative(this.#folder, this.resolved(path)).split(sep).join('/');
    return from === '' ? '.' : from;
  }

  /** The path of a model, which may be one of the Hub. */
  model(path: string, model: string): string {
    // OWNER/NAME of the Hub, unless there is such a folder.
    const isHub = /^[\w-][\w.-]*\/[\w.-]+$/.test(model) && !existsSync(this.resolved(model));
    if (!isHub) return this.path(model);
    this.note(
      'hub-model',
      path,
      `if ${model} is a model of the Hub, \`potstill model pull ${model}\` fetches it and prints what to put here`,
    );
    return model;
  }

  /** In the place of what no config says. */
  fillIn(path: string, name: string, what: string): string {
    this.note('fill-in', path, `no config given says ${what}`);
    return `${FILL_IN}/${name}`;
  }
}
