import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { CacheAnswers } from './cache-answers.ts';
import { SERVED_ROOT } from './protocol.ts';
import { Site } from './site.ts';

/** Only this machine's own programs reach it. */
const HOST = '127.0.0.1';
/** Bytes of the key that a served cache's address has: other users of this machine do not guess it. */
const KEY_BYTES = 16;

/** Scripts, styles and WASM of the site alone, and requests to nobody else. */
const HEADERS = {
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data:; " +
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
  'Cache-Control': 'no-store',
} as const;

export interface ServePageOptions {
  /** A cache that the page offers; without one, the user picks one there. */
  readonly cache?: string | undefined;
  /** Free unless given. */
  readonly port?: number | undefined;
}

/** A server that runs. */
export interface PageServer {
  /** What to open. The key of a cache stands behind `#`, so that it is in no log. */
  readonly url: string;
  close(): Promise<void>;
}

/**
 * Serves the page that verifies caches to this machine.
 *
 * @throws PotstillError `ERR_PAGE_MISSING` when the page is not built
 */
export async function servePage({ cache, port = 0 }: ServePageOptions = {}): Promise<PageServer> {
  const site = await Site.open();
  const key = randomBytes(KEY_BYTES).toString('hex');
  const answers = cache === undefined ? undefined : new CacheAnswers(cache);
  const served = `${SERVED_ROOT}${key}/`;
  let origin = '';

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    // A page of elsewhere whose name was pointed here shows its own name: it gets nothing.
    if (`http://${request.headers.host}` !== origin)
      return end(response, 403, 'text/plain', 'not the name of this server');
    if (request.method !== 'GET') return end(response, 405, 'text/plain', 'only GET');
    const { pathname, searchParams } = new URL(request.url ?? '/', origin);
    if (answers !== undefined && pathname.startsWith(served)) {
      const { status, type, body } = answers.answer(pathname.slice(served.length), searchParams);
      return end(response, status, type, body);
    }
    const file = await site.file(pathname);
    if (file === undefined) return end(response, 404, 'text/plain', 'there is nothing here');
    end(response, 200, file.type, file.bytes);
  };

  const server = createServer((request, response) => {
    handle(request, response).catch((thrown: unknown) => {
      end(response, 500, 'text/plain', thrown instanceof Error ? thrown.message : String(thrown));
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(port, HOST, resolve);
  });
  origin = `http://${HOST}:${(server.address() as AddressInfo).port}`;
  return {
    url: `${origin}/${answers === undefined ? '' : `#${key}`}`,
    close: () =>
      new Promise((resolve) => {
        answers?.[Symbol.dispose]();
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function end(response: ServerResponse, status: number, type: string, body: Uint8Array | string): void {
  response.writeHead(status, { ...HEADERS, 'Content-Type': type }).end(body);
}
