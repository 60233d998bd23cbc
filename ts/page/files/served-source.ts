import { type CacheSource, type SourceFailure, sourceFailure } from '../../cache/source.ts';
import { inputError } from '../../errors.ts';
import { SERVED_FAILURE_STATUS, SERVED_MAX_READ } from '../../serve/protocol.ts';
import { ReadWindow } from './window.ts';

/**
 * A cache that `potstill cache verify --serve CACHE` offers, read from the server in pieces. Synchronous requests are what
 * workers have for those who cannot wait.
 */
export class ServedSource implements CacheSource {
  readonly #base: string;
  readonly #sizes = new Map<string, number>();
  // Nothing is freed by hand: what the browser itself keeps of an answer goes by collection alone, which buffers bring about.
  readonly #window = new ReadWindow((path, offset, length) => this.#readRange(path, offset, length));
  #lost = false;

  /** @param base the address of the cache, with a slash at its end */
  constructor(base: string) {
    this.#base = base;
  }

  list(): string[] {
    return this.#json('list', {}) as string[];
  }

  size(path: string): number {
    const known = this.#sizes.get(path);
    if (known !== undefined) return known;
    const size = this.#json('size', { path }) as number;
    this.#sizes.set(path, size);
    return size;
  }

  read(path: string, offset: number, target: Uint8Array): number {
    const { length } = target;
    const size = this.size(path);
    if (offset + length > size) throw sourceFailure('too-short', 'ends early');
    target.set(this.#window.read(path, offset, length, size));
    return length;
  }

  /**
   * Refuses what was found when the server had gone away: that is no finding.
   *
   * @throws PotstillError `ERR_CACHE_MISSING`
   */
  requireServer(): void {
    if (!this.#lost) return;
    throw inputError('ERR_CACHE_MISSING', 'the server that offers the cache went away', {
      remedy: 'Run `potstill cache verify --serve CACHE` again and open the address that it prints.',
    });
  }

  #readRange(path: string, offset: number, length: number): Uint8Array {
    if (length <= SERVED_MAX_READ) return this.#ask('read', { path, offset, length });
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length; at += SERVED_MAX_READ) {
      const take = Math.min(SERVED_MAX_READ, length - at);
      bytes.set(this.#ask('read', { path, offset: offset + at, length: take }), at);
    }
    return bytes;
  }

  #json(what: string, query: Readonly<Record<string, string | number>>): unknown {
    return JSON.parse(new TextDecoder().decode(this.#ask(what, query)));
  }

  #ask(what: string, query: Readonly<Record<string, string | number>>): Uint8Array {
    const words = new URLSearchParams(Object.entries(query).map(([key, value]) => [key, String(value)]));
    const request = new XMLHttpRequest();
    request.open('GET', `${this.#base}${what}?${words}`, false);
    request.responseType = 'arraybuffer';
    try {
      request.send();
    } catch {
      this.#lost = true;
      throw sourceFailure('failed', 'the server does not answer');
    }
    const bytes = new Uint8Array(request.response as ArrayBuffer);
    if (request.status === 200) return bytes;
    if (request.status === SERVED_FAILURE_STATUS) throw JSON.parse(new TextDecoder().decode(bytes)) as SourceFailure;
    this.#lost = true;
    throw sourceFailure('failed', `the server answered ${request.status}`);
  }
}
