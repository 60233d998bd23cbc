import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildCache, type VerificationReport, type VerifyOptions, verifyCache } from '../ts/cache/index.ts';
import { loadEngine } from '../ts/native/index.ts';
import { type PageServer, servePage } from '../ts/serve/index.ts';
import { Browser } from './support/chromium/browser.ts';
import { findChromium } from './support/chromium/find.ts';
import { type Damage, damagedCopy } from './support/damage.ts';
import { FILES_DAMAGES, filesFixture } from './support/files-damages.ts';
import { potstillIn } from './support/potstill.ts';
import { verdictsOf } from './support/recomputation.ts';
import { LINK_DAMAGE, SHARD_DAMAGES } from './support/shard-damages.ts';
import { serveFolder } from './support/static-server.ts';
import { makeTinyProject, type TinyProject } from './support/tiny-project.ts';
import { VerifyPage } from './support/verify-page.ts';

const chromium = findChromium();
const SITE = join(import.meta.dirname, '../dist/verify-page');

/** What `potstill cache verify --json` prints, by the addon and, to the same byte, by Node's WASM. */
async function reportOf(cache: string, options: VerifyOptions = {}): Promise<string> {
  const [native, wasm] = [
    await verifyCache(cache, { ...options, backend: 'native' }),
    await verifyCache(cache, { ...options, backend: 'wasm' }),
  ];
  expect(wasm.json).toBe(native.json);
  return `${JSON.stringify(native.report, null, 2)}\n`;
}

/** Fails unless a report names the damage. */
function expectNamed(json: string, { named }: Damage): void {
  const { findings } = JSON.parse(json) as VerificationReport;
  expect(findings.map(({ component, code }) => `${component}: ${code}`)).toEqual(expect.arrayContaining([...named]));
}

describe.skipIf(chromium === undefined)('the page that verifies, in Chromium', () => {
  let browser: Browser;
  let server: PageServer;
  let project: TinyProject;
  let opened: VerifyPage;
  let scratch: string;
  const at = (...parts: string[]): string => join(project.folder, ...parts);

  /** A cache with holes of gigabytes: nothing on disk, but many seconds to read and hash. */
  const largeCache = (shard = 2 ** 33): string => {
    const large = join(scratch, 'large');
    cpSync(at('cache'), large, { recursive: true });
    for (const index of [0, 1]) truncateSync(join(large, `teachers/first/shard-0000${index}.safetensors`), shard);
    return large;
  };

  beforeAll(async () => {
    const engine = await loadEngine();
    project = await makeTinyProject(engine);
    await buildCache(await project.recipe(), { engine });
    scratch = mkdtempSync(join(tmpdir(), 'potstill-page-'));
    server = await servePage();
    browser = await Browser.launch(chromium ?? '');
    opened = await VerifyPage.open(browser, server.url);
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
    project?.[Symbol.dispose]();
    rmSync(scratch, { recursive: true, force: true });
  });

  test.each(['shared', 'cuda', 'keyed'] as const)('reports on the files of PyTorch as Node does: %s', async (name) => {
    const folder = filesFixture(name);
    expect(await opened.verify(folder)).toBe(await reportOf(folder));
  });

  test('reports on shards as the command line does', async () => {
    const { stdout } = await potstillIn(project.folder)('cache', 'verify', 'cache', '--json');
    expect(await opened.verify(at('cache'))).toBe(stdout);
    expect(await reportOf(at('cache'))).toBe(stdout);
  });

  test.each(FILES_DAMAGES)('finds in files of PyTorch: $what', async (damage) => {
    using copy = await damagedCopy(filesFixture('shared'), damage);
    const report = await opened.verify(copy.folder);
    expect(report).toBe(await reportOf(copy.folder));
    expectNamed(report, damage);
  });

  test.each(SHARD_DAMAGES.filter(({ what }) => what !== LINK_DAMAGE))('finds in shards: $what', async (damage) => {
    using copy = await damagedCopy(at('cache'), damage);
    const report = await opened.verify(copy.folder);
    expect(report).toBe(await reportOf(copy.folder));
    expectNamed(report, damage);
  });

  test.each(SHARD_DAMAGES)('finds in shards that its server offers: $what', async (damage) => {
    using copy = await damagedCopy(at('cache'), damage);
    const offering = await servePage({ cache: copy.folder });
    const page = await VerifyPage.open(browser, offering.url);
    try {
      await page.page.click('#verify-served');
      const report = await page.report();
      expect(report).toBe(await reportOf(copy.folder));
      expectNamed(report, damage);
    } finally {
      await page.close();
      await offering.close();
    }
  });

  test('finds nothing behind a link: browsers pass over them', async () => {
    const link = SHARD_DAMAGES.find(({ what }) => what === LINK_DAMAGE) as Damage;
    using copy = await damagedCopy(at('cache'), link);
    expectNamed(await opened.verify(copy.folder), { ...link, named: ['text: shard-missing'] });
  });

  test('says that the server is gone, instead of finding that everything is missing', async () => {
    const offering = await servePage({ cache: largeCache() });
    const page = await VerifyPage.open(browser, offering.url);
    await page.page.click('#verify-served');
    await page.page.until(`document.querySelector('#bar').value > 0`);
    await offering.close();
    expect(await page.failure()).toContain('the server that offers the cache went away');
    await page.close();
  });

  test.each([
    ['by an input', (page: VerifyPage) => page.choose('#choose', filesFixture('shared'))],
    [
      'by its parts, dropped together',
      (page: VerifyPage) =>
        page.page.drop(
          '#drop',
          readdirSync(filesFixture('shared')).map((name) => join(filesFixture('shared'), name)),
        ),
    ],
    ['through the File System Access API', (page: VerifyPage) => chooseHandle(page, filesFixture('shared'))],
  ])('takes a folder %s', async (_, give) => {
    const page = await VerifyPage.open(browser, server.url);
    await page.useInputs();
    await give(page);
    expect(await page.report()).toBe(await reportOf(filesFixture('shared')));
    await page.close();
  });

  test('makes seeds anew for the images that are named', async () => {
    const images = join(scratch, 'images');
    mkdirSync(join(images, 'cats'), { recursive: true });
    for (const name of ['0', '1', '2', '3', '4', 'late']) writeFileSync(join(images, 'cats', `${name}.png`), '');
    writeFileSync(join(images, 'cats', '.hidden.png'), '');
    const page = await VerifyPage.open(browser, server.url);
    await page.useInputs();
    await page.page.click('#options summary');
    await page.choose('#choose-images', images);
    await page.page.until(`document.querySelector('#images li')`);
    const report = await page.verify(filesFixture('shared'));
    expect(report).toBe(await reportOf(filesFixture('shared'), { images: { folder: images } }));
    expect(report).toContain('cats/late');
    await page.close();
  });

  test('computes entries again from models, with the verdicts of Node', { timeout: 120_000 }, async () => {
    const tampered = join(scratch, 'tampered');
    cpSync(at('cache'), tampered, { recursive: true });
    const swapped = SHARD_DAMAGES.find(({ named }) => named.includes('teachers/first: prediction-swapped'));
    await swapped?.damage(tampered);
    const page = await VerifyPage.open(browser, server.url);
    await page.useInputs();
    await page.page.click('#options summary');
    for (const model of ['base', 'first']) {
      await page.choose('#choose-model', at(model));
      await page.page.until(`document.querySelector('#models').innerText.includes(${JSON.stringify(model)})`);
    }
    await page.choose('#choose-images', at('pictures'));
    await page.page.until(`document.querySelector('#images li')`);
    await page.page.evaluate(`(() => {
      document.querySelector('#entries').value = '10000';
      document.querySelector('#nonce').value = 'same';
    })()`);
    for (const [cache, verdict] of [
      [at('cache'), 'ok'],
      [tampered, 'damaged'],
    ] as const) {
      const report = JSON.parse(await page.verify(cache)) as VerificationReport;
      const recompute = { entries: 10_000, models: [at('base'), at('first')], nonce: 'same' };
      const native = await verifyCache(cache, { recompute, images: { folder: at('pictures') }, backend: 'native' });
      expect(verdictsOf(report)).toEqual(verdictsOf(native.report));
      expect(report.verdict).toBe(verdict);
      expect(report.recomputation?.components.length).toBeGreaterThan(1);
    }
    await page.choose('#choose-model', at('second', 'unet'));
    await page.page.until(`document.querySelectorAll('#models li').length === 3`);
    await page.page.drop('#drop', [at('cache')]);
    expect(await page.failure()).toContain('ERR_MODEL');
    await page.close();
  });

  test.skipIf(process.platform !== 'linux')('holds no more of a large cache than of a small one', async () => {
    const page = await VerifyPage.open(browser, server.url);
    let most = 0;
    await page.page.drop('#drop', [largeCache(2 ** 29)]);
    while (!(await page.page.evaluate(`!document.querySelector('#result').hidden`))) {
      most = Math.max(most, await browser.rendererBytes());
      await new Promise((done) => setTimeout(done, 50));
    }
    // 170 MB were seen, of files of any size; the files are of 1 GiB.
    expect(most).toBeGreaterThan(50e6);
    expect(most).toBeLessThan(400e6);
    await page.close();
  });

  test('stops when it is told to, and goes on with the next cache', async () => {
    const large = join(scratch, 'large');
    cpSync(at('cache'), large, { recursive: true });
    // A hole on disk, but read and hashed it takes many seconds.
    for (const name of ['00000', '00001'])
      truncateSync(join(large, `teachers/first/shard-${name}.safetensors`), 2 ** 33);
    const { page } = opened;
    await page.drop('#drop', [large]);
    await page.until(`document.querySelector('#bar').value > 0 && !document.querySelector('#run').hidden`);
    await page.click('#cancel');
    await page.until(`document.querySelector('#run').hidden`, 2_000);
    expect(await page.evaluate(`document.querySelector('#status').innerText`)).toBe('Verifying large: cancelled');
    expect(await page.evaluate(`document.querySelector('#result').hidden`)).toBe(true);
    expect(await opened.verify(at('cache'))).toBe(await reportOf(at('cache')));
  });

  test.each([
    ['a folder without a cache', () => at('pictures'), 'there is no cache here'],
    ['a file', () => project.recipeFile, 'there is no cache here'],
    [
      'an empty folder',
      () => {
        mkdirSync(join(scratch, 'empty'), { recursive: true });
        return join(scratch, 'empty');
      },
      'the folder is empty',
    ],
  ])('refuses %s', async (_, path, what) => {
    await opened.page.drop('#drop', [path()]);
    const failure = await opened.failure();
    expect(failure).toContain(what);
    expect(failure).toContain('ERR_CACHE_MISSING');
    expect(failure).toMatch(/Do: /);
  });

  test('filters findings', async () => {
    const { page } = opened;
    await page.drop('#drop', [filesFixture('keyed')]);
    await page.until(`!document.querySelector('#result').hidden`);
    const shown = (): Promise<string> => page.evaluate(`document.querySelector('#result [role=status]').innerText`);
    expect(await shown()).toBe('3 of 3 findings shown');
    await page.evaluate(`(() => {
      const [severity] = document.querySelectorAll('.filters select');
      severity.value = 'error';
      severity.dispatchEvent(new Event('change'));
    })()`);
    expect(await shown()).toBe('1 of 3 findings shown');
    expect(await page.evaluate(`document.querySelector('.group').innerText`)).toContain('noise-keyed-by-teacher');
  });

  test('is used with the keyboard, and names all its controls', async () => {
    const page = await VerifyPage.open(browser, server.url);
    await page.useInputs();
    const focused = (): Promise<string> =>
      page.page.evaluate('document.activeElement.id || document.activeElement.tagName');
    const seen: string[] = [];
    while (seen.at(-1) !== 'nonce' && seen.length < 20) {
      await page.page.press('Tab');
      seen.push(await focused());
      if (seen.at(-1) === 'SUMMARY') await page.page.press('Enter');
    }
    expect(seen.slice(0, 2)).toEqual(['choose', 'SUMMARY']);
    expect(seen).toEqual(
      expect.arrayContaining(['choose-images', 'base-seed', 'choose-model', 'choose-model-file', 'entries', 'nonce']),
    );
    const { nodes } = (await page.page.send('Accessibility.getFullAXTree')) as {
      nodes: { role?: { value: string }; name?: { value: string }; ignored: boolean }[];
    };
    const controls = nodes.filter(
      ({ role, ignored }) => !ignored && /^(button|textbox|spinbutton|checkbox|combobox)$/.test(role?.value ?? ''),
    );
    expect(controls.length).toBeGreaterThan(6);
    expect(controls.filter(({ name }) => (name?.value ?? '') === '')).toEqual([]);
    await page.close();
  });

  test('moves the focus to the verdict, and does not scroll sideways on a narrow screen', async () => {
    const page = await VerifyPage.open(browser, server.url);
    await page.page.look({ width: 360, height: 700, dark: true });
    await page.page.drop('#drop', [filesFixture('keyed')]);
    await page.page.until(`document.activeElement.id === 'verdict'`);
    await page.page.evaluate(`document.querySelector('#options').open = true`);
    const [width, inner] = await page.page.evaluate<[number, number]>(
      '[document.documentElement.scrollWidth, window.innerWidth]',
    );
    expect(width).toBeLessThanOrEqual(inner);
    await page.close();
  });

  test('works from any static host, asks nobody else for anything, and breaks no policy', async () => {
    const host = await serveFolder(SITE, '/some/where/');
    const page = await VerifyPage.open(browser, host.url);
    expect(await page.verify(filesFixture('shared'))).toBe(await reportOf(filesFixture('shared')));
    const elsewhere = page.page.requests.filter((url) => !url.startsWith(host.url) && !/^(data|blob):/.test(url));
    expect(elsewhere).toEqual([]);
    expect(page.page.complaints).toEqual([]);
    expect(opened.page.complaints).toEqual([]);
    await page.close();
    host.close();
  });
});

/** What `showDirectoryPicker` gives, out of the browser's own file system: its dialog cannot be answered by a program. */
async function chooseHandle({ page }: VerifyPage, folder: string): Promise<void> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => {
      const path = join(entry.parentPath, entry.name);
      return [path.slice(folder.length + 1).split('/'), readFileSync(path).toString('base64')];
    });
  await page.evaluate(`(async () => {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('shared', { create: true });
    for (const [path, base64] of ${JSON.stringify(files)}) {
      let folder = root;
      for (const name of path.slice(0, -1)) folder = await folder.getDirectoryHandle(name, { create: true });
      const writable = await (await folder.getFileHandle(path.at(-1), { create: true })).createWritable();
      await writable.write(Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)));
      await writable.close();
    }
    window.showDirectoryPicker = async () => root;
  })()`);
  await page.click('#choose');
}
