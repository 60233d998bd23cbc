import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { Page } from './page.ts';

/** Headless; without the sandbox, which containers do not allow; its profile and shared memory in files. */
const FLAGS = [
  '--headless=new',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--force-color-profile=srgb',
  '--remote-debugging-pipe',
];

/** What the DevTools protocol answers or tells. */
interface Message {
  readonly id?: number;
  readonly sessionId?: string;
  readonly method?: string;
  readonly params?: Record<string, unknown>;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly message: string };
}

type Listener = (method: string, params: Record<string, unknown>) => void;

/** A headless Chromium, driven by the DevTools protocol over a pipe: JSON documents that end with a zero byte. */
export class Browser {
  readonly #process: ChildProcess;
  readonly #profile: string;
  readonly #input: Writable;
  readonly #waiting = new Map<number, (message: Message) => void>();
  readonly #listeners = new Map<string, Listener>();
  #last = 0;

  private constructor(path: string) {
    this.#profile = mkdtempSync(join(tmpdir(), 'potstill-chromium-'));
    this.#process = spawn(path, [...FLAGS, `--user-data-dir=${this.#profile}`, 'about:blank'], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
    });
    this.#input = this.#process.stdio[3] as Writable;
    let rest = '';
    (this.#process.stdio[4] as Readable).setEncoding('utf8').on('data', (text: string) => {
      const documents = (rest + text).split('\0');
      rest = documents.pop() ?? '';
      for (const document of documents) this.#take(JSON.parse(document) as Message);
    });
    const end = (): void => {
      for (const answer of this.#waiting.values()) answer({ error: { message: 'the browser ended' } });
      this.#waiting.clear();
    };
    this.#process.on('exit', end).on('error', end);
    this.#input.on('error', end);
  }

  static async launch(path: string): Promise<Browser> {
    const browser = new Browser(path);
    await browser.send('Browser.getVersion');
    return browser;
  }

  /** A page in a profile of its own. */
  async page(url: string): Promise<Page> {
    const { browserContextId } = await this.send('Target.createBrowserContext');
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank', browserContextId });
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true });
    const page = new Page(this, { session: sessionId as string, context: browserContextId as string });
    this.#listeners.set(sessionId as string, (method, params) => page.hear(method, params));
    await page.open(url);
    return page;
  }

  /** Asks, and waits for the answer. */
  send(method: string, params: object = {}, sessionId?: string): Promise<Record<string, unknown>> {
    this.#last += 1;
    const id = this.#last;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, ({ error, result = {} }) => {
        if (error === undefined) resolve(result);
        else reject(new Error(`${method}: ${error.message}`));
      });
      this.#input.write(`${JSON.stringify({ id, method, params, ...(sessionId && { sessionId }) })}\0`);
    });
  }

  /** Bytes of memory of the largest process that shows pages, now; on Linux alone. */
  async rendererBytes(): Promise<number> {
    const { processInfo } = await this.send('SystemInfo.getProcessInfo');
    const renderers = (processInfo as { type: string; id: number }[]).filter(({ type }) => type === 'renderer');
    const bytes = renderers.map(({ id }) => {
      const status = existsSync(`/proc/${id}/status`) ? readFileSync(`/proc/${id}/status`, 'utf8') : '';
      return 1024 * Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0);
    });
    return Math.max(...bytes);
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#process.once('exit', resolve));
    if (this.#process.exitCode === null) {
      this.send('Browser.close').catch(() => {});
      await ended;
    }
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }

  #take({ id, sessionId, method, params = {}, ...answer }: Message): void {
    if (id !== undefined) {
      this.#waiting.get(id)?.(answer);
      this.#waiting.delete(id);
    } else if (method !== undefined && sessionId !== undefined) {
      this.#listeners.get(sessionId)?.(method, params);
    }
  }
}
