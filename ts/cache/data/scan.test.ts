import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { aspectSizes } from '../../data/aspect.ts';
import { type DataSource, type InspectImage, scanData } from './scan.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'potstill-scan-'));
});
afterEach(() => rm(folder, { recursive: true }));

const digest = (bytes: string | Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
/** As if every picture were 64 by 32, but those whose bytes say otherwise. */
const inspect: InspectImage = async (path, sizes) => {
  const bytes = await readFile(path);
  const isTall = bytes.includes('tall');
  const nearest = sizes.find(({ width, height }) => (isTall ? height > width : width > height)) ?? sizes[0];
  const { width = 0, height = 0 } = nearest ?? {};
  return { digest: digest(bytes), width, height, left: width === 32 && !isTall ? 16 : 0, top: 0 };
};

function source(overrides: Partial<DataSource> = {}): DataSource {
  return {
    images: folder,
    captions: 'txt',
    sizes: [{ width: 32, height: 32 }],
    flip: false,
    repeats: 1,
    captionDropout: 0,
    heldOut: false,
    ...overrides,
  };
}

async function add(name: string, bytes: string, caption: string): Promise<void> {
  await writeFile(join(folder, `${name}.png`), bytes);
  await writeFile(join(folder, `${name}.txt`), caption);
}

describe('scanData', () => {
  it('keys by content: names and copies make no difference', async () => {
    await add('z', 'one', 'a fox');
    await add('a', 'two', 'a cat');
    await add('copy', 'one', 'a fox');
    await add('other-caption', 'one', 'a red fox');
    const scan = await scanData([source({ repeats: 3, captionDropout: 0.1 })], inspect);
    expect(scan.captions).toEqual(['', 'a cat', 'a fox', 'a red fox']);
    const byImage = [digest('one'), digest('two')].sort();
    expect(scan.views).toEqual(byImage.map((image) => ({ image, view: '32x32+16+0' })));
    const one = byImage.indexOf(digest('one'));
    const pairs = scan.samples.map(({ view, caption }) => [view === one ? 'one' : 'two', scan.captions[caption]]);
    expect(pairs.sort()).toEqual([
      ['one', 'a fox'],
      ['one', 'a red fox'],
      ['two', 'a cat'],
    ]);
    const trained = scan.training.map(({ sample, repeats }) => [
      scan.captions[scan.samples[sample]?.caption ?? 0],
      repeats,
    ]);
    expect(trained).toEqual([
      ['a cat', 3],
      ['a fox', 3],
      ['a red fox', 3],
      ['a fox', 3],
    ]);
    expect(scan.files.get(digest('two'))).toBe(join(folder, 'a.png'));
  });

  it('gives each picture the size of its shape', async () => {
    await add('wide', 'one', 'a fox');
    await add('high', 'tall', 'a tower');
    const sizes = aspectSizes({ width: 64, height: 64 }, { divisor: 16, min: 32, max: 128 });
    const scan = await scanData([source({ sizes })], inspect);
    const views = scan.views.map(({ view }) => view.split('+')[0]);
    // The first that is higher than wide, and the first that is wider than high: `inspect` looks no closer.
    expect(views).toEqual(['32x96', '80x48']);
  });

  it('makes a sample of each order of a caption, of which the first stands for all', async () => {
    await add('a', 'one', 'fox, red, small');
    await add('b', 'two', 'cat');
    const shuffle = { variants: 6, keep: 1, separator: ',', seed: 3 };
    const { captions, training, samples } = await scanData([source({ shuffle })], inspect);
    expect(captions).toEqual(['', 'cat', 'fox, red, small', 'fox, small, red']);
    expect(samples).toHaveLength(3);
    expect(training.map(({ variantOf }) => variantOf)).toEqual([undefined, 0, undefined]);
    const again = await scanData([source({ shuffle })], inspect);
    expect(again.captions).toEqual(captions);
  });

  it('finds the mask of every picture, and refuses none and one of another shape', async () => {
    await add('a', 'one', 'a fox');
    const masks = await mkdtemp(join(tmpdir(), 'potstill-masks-'));
    await expect(scanData([source({ masks })], inspect)).rejects.toThrow(/has no mask/);
    await writeFile(join(masks, 'a.png'), 'tall mask');
    await expect(scanData([source({ masks })], inspect)).rejects.toThrow(/another shape/);
    await writeFile(join(masks, 'a.png'), 'mask');
    const { training } = await scanData([source({ masks })], inspect);
    expect(training[0]?.mask).toEqual({ path: join(masks, 'a.png'), digest: digest('mask') });
    await rm(masks, { recursive: true });
  });

  it('adds mirrored views and keeps sizes together', async () => {
    await add('a', 'one', 'a fox');
    const small = source({ flip: true });
    const large = source({ sizes: [{ width: 64, height: 32 }] });
    const scan = await scanData([large, small], inspect);
    expect(scan.views.map(({ view }) => view)).toEqual(['32x32+16+0', '32x32+16+0f', '64x32+0+0']);
    expect(scan.training.map(({ sample }) => sample)).toEqual([2, 0, 1]);
  });

  it('refuses sizes that the VAE cannot halve three times, and empty folders', async () => {
    await expect(scanData([source()], inspect)).rejects.toMatchObject({ code: 'ERR_DATA_NO_IMAGES', where: folder });
    await expect(scanData([source({ images: join(folder, 'none') })], inspect)).rejects.toMatchObject({
      code: 'ERR_DATA_NO_FOLDER',
    });
    await add('a', 'one', 'a fox');
    await expect(scanData([source({ sizes: [{ width: 100, height: 32 }] })], inspect)).rejects.toMatchObject({
      code: 'ERR_DATA_SIZE',
    });
  });

  it('passes on what an image cannot be read for', async () => {
    await add('a', 'one', 'a fox');
    const broken = () => Promise.reject(new Error('no picture'));
    await expect(scanData([source()], broken)).rejects.toThrow('no picture');
  });
});
