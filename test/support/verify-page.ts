import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser } from './chromium/browser.ts';
import type { Page } from './chromium/page.ts';

/** The page that verifies, in a browser. */
export class VerifyPage {
  readonly page: Page;
  readonly #downloads: string;

  private constructor(page: Page, downloads: string) {
    this.page = page;
    this.#downloads = downloads;
  }

  static async open(browser: Browser, url: string): Promise<VerifyPage> {
    const page = await browser.page(url);
    const downloads = mkdtempSync(join(tmpdir(), 'potstill-downloads-'));
    await page.downloadTo(downloads);
    await page.until(`document.querySelector('#app')?.hidden === false`);
    return new VerifyPage(page, downloads);
  }

  /** Drops a folder, and gives the report that the page then offers. */
  async verify(folder: string): Promise<string> {
    await this.page.drop('#drop', [folder]);
    return this.report();
  }

  /** Waits for the result, and downloads the report. */
  async report(): Promise<string> {
    await this.page.until(`!document.querySelector('#result').hidden && document.querySelector('#run').hidden`);
    await this.page.click('#download');
    for (;;) {
      const [name] = readdirSync(this.#downloads).filter((file) => !file.endsWith('.crdownload'));
      const path = join(this.#downloads, name ?? '');
      // The browser takes the name first, by a file without content, and puts what it has downloaded in its place.
      if (name !== undefined && statSync(path).size > 0) {
        const text = readFileSync(path, 'utf8');
        if (name !== 'potstill-verification.json') throw new Error(`it was saved as ${name}`);
        rmSync(path);
        await this.page.evaluate(`document.querySelector('#result').hidden = true`);
        return text;
      }
      await new Promise((done) => setTimeout(done, 20));
    }
  }

  /** Waits for an error, and gives its text. */
  async failure(): Promise<string> {
    await this.page.until(`!document.querySelector('#failure').hidden`);
    return this.page.evaluate<string>(`document.querySelector('#failure').innerText`);
  }

  /** Makes the page use `<input type="file">`, whose dialogs a test can answer. */
  async useInputs(): Promise<void> {
    await this.page.evaluate('void (window.showDirectoryPicker = undefined)');
  }

  /** Opens a dialog with a button, and chooses a folder or file in it. */
  async choose(button: string, path: string): Promise<void> {
    await this.page.answerChooser(button, path, button.endsWith('-file') ? '#file-input' : '#folder-input');
  }

  async close(): Promise<void> {
    await this.page.close();
    rmSync(this.#downloads, { recursive: true, force: true });
  }
}
