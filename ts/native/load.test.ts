import { expect, test } from 'vitest';
import { packageVersion } from '../version.ts';
import type { NativeAddon } from './candidate.ts';
import { addon, addonCandidates, chooseAddon, withKernels } from './load.ts';
import { loadEngine } from './load-engine.ts';

const good = { version: () => '1.2.3', kernelClass: () => 'sse' };
const broken = (): never => {
  throw new Error('libfoo.so.1: cannot open shared object file\nmore');
};

test('takes the first addon that loads and has the right version', () => {
  const places = [
    { source: 'a', exists: () => true, load: broken },
    { source: 'b', exists: () => true, load: () => ({ ...good, version: () => '1.2.2' }) },
    { source: 'c', exists: () => true, load: () => good },
  ];
  expect(chooseAddon(places, '1.2.3')).toBe(good);
});

test('without one, says what is wrong with each place and what to install', () => {
  expect(() => chooseAddon([{ source: 'a', exists: () => true, load: broken }], '1.2.3')).toThrow(
    expect.objectContaining({
      code: 'ERR_NATIVE_MISSING',
      kind: 'machine',
      what: expect.stringContaining('a: libfoo.so.1: cannot open shared object file'),
      remedy: expect.stringMatching(/npm install @potstill\/native-\S+@1\.2\.3/),
    }),
  );
  expect(() => chooseAddon([{ source: 'b', exists: () => true, load: () => good }], '2.0.0')).toThrow(
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

test('uses the kernels that the environment names, and refuses what there is not', () => {
  const used: string[] = [];
  const native = {
    kernelClasses: () => ['sse', 'avx2'],
    useKernels: (name: string) => used.push(name) > 0 && ['sse', 'avx2'].includes(name),
  } as unknown as NativeAddon;
  expect(withKernels(native, '')).toBe(native);
  expect(used).toEqual([]);
  expect(withKernels(native, 'sse')).toBe(native);
  expect(() => withKernels(native, 'avx512')).toThrow(
    expect.objectContaining({ code: 'ERR_KERNELS', kind: 'machine', where: 'POTSTILL_KERNELS' }),
  );
  expect(() => withKernels(native, 'fast')).toThrow(
    expect.objectContaining({ kind: 'input', remedy: 'Unset it, or choose one of: sse, avx2.' }),
  );
  expect(addon().kernelClasses()).toContain(addon().kernelClass());
});
