import { FolderSource } from '../cache/folder-source.ts';
import { isSourceFailure } from '../cache/source.ts';
import { SERVED_FAILURE_STATUS, SERVED_MAX_READ, type ServedCache } from './protocol.ts';

/** What is answered. */
export interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: Uint8Array | string;
}

/** Answers questions about the files of one cache, and of nothing beside it: no way leads out, and links are not followed. */
export class CacheAnswers implements Disposable {
  readonly #name: string;
  readonly #source: FolderSource;

  /** @param folder as the user named it */
  constructor(folder: string) {
    this.#name = folder;
    this.#source = new FolderSource(folder);
  }

  /** @param what `about`, `list`, `size` or `read` */
  answer(what: string, query: URLSearchParams): Answer {
    try {
      const path = query.get('path') ?? '';
      if (what === 'about') return json({ name: this.#name } satisfies ServedCache);
      if (what === 'list') return this.#list();
      if (what === 'size') return json(this.#source.size(path));
      if (what === 'read') return this.#read(path, Number(query.get('offset')), Number(query.get('length')));
      return json('no such question', 404);
    } catch (thrown) {
      if (isSourceFailure(thrown)) return json(thrown, SERVED_FAILURE_STATUS);
      throw thrown;
    }
  }

  [Symbol.dispose](): void {
    this.#source[Symbol.dispose]();
  }

  /** What a verification begins with; the file that the last one held open may have been replaced since. */
  #list(): Answer {
    this[Symbol.dispose]();
    return json(this.#source.list());
  }

  #read(path: string, offset: number, length: number): Answer {
    const isCount = (value: number): boolean => Number.isSafeInteger(value) && value >= 0;
    if (!isCount(offset) || !isCount(length) || length > SERVED_MAX_READ) return json('no such range', 400);
    const body = new Uint8Array(length);
    this.#source.read(path, offset, body);
    return { status: 200, type: 'application/octet-stream', body };
  }
}

function json(value: unknown, status = 200): Answer {
  return { status, type: 'application/json', body: JSON.stringify(value) };
}
