import { expect, test } from 'vitest';
import { packageVersion } from '../version.ts';
import { addonCandidates, chooseAddon, loadEngine } from './load.ts';

const good = { version: () => '1.2.3', kernelClass: () => 'sse' };
const broken = (): never => {
  throw new Error('libfoo.so.1: cannot open shared object file\nmore');
};

test('takes the first addon that loads and has the right version', () => {
  const places = [
    { source: 'a', load: broken },
    { source: 'b', load: () => ({ ...good, version: () => '1.2.2' }) },
    { source: 'c', load: () => good },
  ];
  expect(chooseAddon(places, '1.2.3')).toBe(good);
});

test('without one, says what is wrong with each place and what to install', () => {
  expect(() => chooseAddon([{ source: 'a', load: broken }], '1.2.3')).toThrow(
    expect.objectContaining({
      code: 'ERR_NATIVE_MISSING',
      kind: 'machine',
      what: expect.stringContaining('a: libfoo.so.1: cannot open shared object file'),
      remedy: expect.stringMatching(/npm install @potstill\/native-\S+@1\.2\.3/),
    }),
  );
  expect(() => chooseAddon([{ source: 'b', load: () => good }], '2.0.0')).toThrow(
    expect.objectContaining({ code: 'ERR_NATIVE_VERSION', what: expect.stringContaining('it is version 1.2.3') }),
  );
});

test('names every place for doctor', () => {
  const candidates = addonCandidates();
  expect(candidates.length).toBeGreaterThan(1);
  expect(candidates.find(({ loaded }) => loaded)).toMatchObject({ version: packageVersion() });
});

test.each([0, 1.5, -2, Number.NaN, 1e9])('%s threads are refused', async (threads) => {
  await expect(loadEngine({ threads })).rejects.toMatchObject({ code: 'ERR_THREADS', kind: 'input' });
});
