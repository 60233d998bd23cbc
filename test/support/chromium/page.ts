import type { Browser } from './browser.ts';

/** How long a page may take for something, in milliseconds. */
const PATIENCE_MS = 60_000;
const POLL_MS = 25;

/** How a page is shown. */
export interface Look {
  readonly width: number;
  readonly height: number;
  readonly dark?: boolean;
  /** Device pixels of a CSS pixel. */
  readonly scale?: number;
}

/** One page of a {@link Browser}. */
export class Page {
  readonly #browser: Browser;
  readonly #session: string;
  readonly #context: string;
  /** What the page's console and security policy said, and what it failed with. */
  readonly complaints: string[] = [];
  /** Addresses of everything that the page asked for, its workers' requests left out. */
  readonly requests: string[] = [];

  /** Dialogs for files that were opened. */
  #choosers = 0;

  constructor(browser: Browser, { session, context }: { readonly session: string; readonly context: string }) {
    this.#browser = browser;
    this.#session = session;
    this.#context = context;
  }

  /** Hears what the browser tells of this page. */
  hear(method: string, params: Record<string, unknown>): void {
    if (method === 'Log.entryAdded') {
      const { level, text, url = '' } = params['entry'] as { level: string; text: string; url?: string };
      if (level === 'error') this.complaints.push(`${text} ${url}`);
    } else if (method === 'Runtime.exceptionThrown') {
      const { exceptionDetails } = params as {
        exceptionDetails: { text: string; exception?: { description?: string } };
      };
      this.complaints.push(exceptionDetails.exception?.description ?? exceptionDetails.text);
    } else if (method === 'Page.fileChooserOpened') {
      this.#choosers += 1;
    } else if (method === 'Network.requestWillBeSent') {
      this.requests.push((params['request'] as { url: string }).url);
    }
  }

  async open(url: string): Promise<void> {
    for (const domain of ['Page', 'Runtime', 'Log', 'Network', 'DOM']) await this.send(`${domain}.enable`);
    await this.send('Page.navigate', { url });
    await this.until(`document.readyState === 'complete'`);
  }

  /** The value of an expression, which may be a promise of it. */
  async evaluate<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = (await this.send('Runtime.evaluate', {
      expression,
      awaitPromise: true,
      returnByValue: true,
      userGesture: true,
    })) as {
      result: { value: T };
      exceptionDetails?: { text: string; exception?: { description?: string } };
    };
    if (exceptionDetails === undefined) return result.value;
    throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
  }

  /** Waits until an expression is true. */
  async until(expression: string, patience = PATIENCE_MS): Promise<void> {
    const end = Date.now() + patience;
    while (!(await this.evaluate<boolean>(`Boolean(${expression})`).catch(() => false))) {
      if (Date.now() > end) {
        const text = await this.evaluate<string>('document.body.innerText').catch(() => '');
        throw new Error(`it never came true: ${expression}; ${this.complaints.join('; ')}\nthe page: ${text}`);
      }
      await new Promise((done) => setTimeout(done, POLL_MS));
    }
  }

  /** Clicks an element as a mouse does, in its middle. */
  async click(selector: string): Promise<void> {
    const { x, y } = await this.#middle(selector);
    for (const type of ['mousePressed', 'mouseReleased']) {
      await this.send('Input.dispatchMouseEvent', { type, x, y, button: 'left', clickCount: 1 });
    }
  }

  /** Presses a key, such as `Tab` or `Enter`, once. */
  async press(key: string): Promise<void> {
    const code = { Enter: 13, Tab: 9, ' ': 32 }[key] ?? 0;
    const text = key === 'Enter' ? '\r' : key === ' ' ? ' ' : undefined;
    const down = { key, code: key === ' ' ? 'Space' : key, windowsVirtualKeyCode: code, ...(text && { text }) };
    await this.send('Input.dispatchKeyEvent', { type: 'keyDown', ...down });
    await this.send('Input.dispatchKeyEvent', { type: 'keyUp', ...down });
  }

  /** Opens a dialog for files with a click, and chooses a file or folder in it. */
  async answerChooser(button: string, path: string, input: string): Promise<void> {
    await this.send('Page.setInterceptFileChooserDialog', { enabled: true });
    const opened = this.#choosers;
    await this.click(button);
    const end = Date.now() + PATIENCE_MS;
    while (this.#choosers === opened) {
      if (Date.now() > end) throw new Error(`${button} opened no dialog`);
      await new Promise((done) => setTimeout(done, POLL_MS));
    }
    const { root } = (await this.send('DOM.getDocument')) as { root: { nodeId: number } };
    const { nodeId } = await this.send('DOM.querySelector', { nodeId: root.nodeId, selector: input });
    await this.send('DOM.setFileInputFiles', { nodeId, files: [path] });
  }

  /** Drops files or folders of this machine on an element, as a file manager does. */
  async drop(selector: string, paths: readonly string[]): Promise<void> {
    const { x, y } = await this.#middle(selector);
    const data = { items: [], files: paths, dragOperationsMask: 1 };
    for (const type of ['dragEnter', 'dragOver', 'drop']) {
      await this.send('Input.dispatchDragEvent', { type, x, y, data });
    }
  }

  /** Lets downloads go to a folder. */
  async downloadTo(folder: string): Promise<void> {
    await this.#browser.send('Browser.setDownloadBehavior', {
      behavior: 'allow',
      browserContextId: this.#context,
      downloadPath: folder,
    });
  }

  async look({ width, height, dark = false, scale = 1 }: Look): Promise<void> {
    await this.send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: scale, mobile: false });
    const features = [{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }];
    await this.send('Emulation.setEmulatedMedia', { features });
  }

  /** A picture of the whole page, as PNG. */
  async picture(): Promise<Buffer> {
    const { data } = await this.send('Page.captureScreenshot', { format: 'png', captureBeyondViewport: true });
    return Buffer.from(data as string, 'base64');
  }

  async close(): Promise<void> {
    await this.#browser.send('Target.disposeBrowserContext', { browserContextId: this.#context });
  }

  send(method: string, params: object = {}): Promise<Record<string, unknown>> {
    return this.#browser.send(method, params, this.#session);
  }

  async #middle(selector: string): Promise<{ x: number; y: number }> {
    return this.evaluate(`(() => {
      const element = document.querySelector(${JSON.stringify(selector)});
      element.scrollIntoView({ block: 'center' });
      const { x, y, width, height } = element.getBoundingClientRect();
      return { x: x + width / 2, y: y + height / 2 };
    })()`);
  }
}
