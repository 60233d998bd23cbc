import { expect, test } from 'vitest';
import type { CacheSource } from './source.ts';
import { recomputeSource } from './wasm-module.ts';

/** `(module (func (export "f") unreachable))`: what the engine runs into when the memory of a module ends. */
const TRAP = Uint8Array.from([
  ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, 0x01, 0x04, 0x01, 0x60, 0x00, 0x00, 0x03, 0x02, 0x01, 0x00],
  ...[0x07, 0x05, 0x01, 0x01, 0x66, 0x00, 0x00, 0x0a, 0x05, 0x01, 0x03, 0x00, 0x00, 0x0b],
]);

/** Node has it; its types for Node do not. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: { readonly f: () => string } };
};

const { f: trap } = new WebAssembly.Instance(new WebAssembly.Module(TRAP)).exports;

/** As the module's panics arrive. */
const overflow = (): never => {
  throw new Error('potstill failed: panicked at library/alloc/src/raw_vec/mod.rs:28:5:\ncapacity overflow');
};

test.each([
  ['stopped without a word', trap],
  ['asked for more than there can be', overflow],
])('a module that was %s has most likely used up its memory, and it is said so', async (_, recompute) => {
  const source: CacheSource = { list: () => [], size: () => 0, read: () => 0 };
  const files = { size: () => -1, isFolder: () => false, read: () => new Uint8Array() };
  const load = async <Exports>(): Promise<Exports> => ({ recompute }) as Exports;
  const reports = { bytes: () => {}, entries: () => {} };
  await expect(recomputeSource(load, source, 'cache', files, '{}', reports)).rejects.toMatchObject({
    code: 'ERR_WASM_STOPPED',
    kind: 'machine',
    where: 'cache',
    remedy: expect.stringContaining('4 GiB'),
  });
});
