import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

/** What the WASM module exports for comparing noise. */
interface WasmNoise {
  initSync(options: { readonly module: Uint8Array }): unknown;
  readonly TorchGenerator: new (seed: bigint) => TorchGenerator;
  philoxNormals(seed: bigint, stream: number, length: number): Float32Array;
  drawSeed(image: string, view: string, draw: number, baseSeed: bigint): bigint;
  stratifiedTimestep(seed: bigint, draw: number, draws: number, min: number, max: number): number;
}

interface TorchGenerator {
  rand(length: number): Float32Array;
  randn(length: number): Float32Array;
}

const MODULE = new URL('../ts/native/wasm/', import.meta.url);
const VECTORS = new URL('../crates/potstill-noise/tests/', import.meta.url);

const wasm = (await import(new URL('potstill_wasm.js', MODULE).href)) as WasmNoise;
wasm.initSync({ module: readFileSync(new URL('potstill_wasm_bg.wasm', MODULE)) });

/** Lines of fields of a table of vectors, which the native tests read too. */
function table(name: string): string[][] {
  const lines = readFileSync(new URL(name, VECTORS), 'utf8').split('\n');
  return lines.filter((line) => line !== '' && !line.startsWith('#')).map((line) => line.split('\t'));
}

function digestOf(values: Float32Array): string {
  return createHash('sha256')
    .update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
    .digest('hex');
}

/** One draw of torch, as the table names it. */
function draw(op: string, seed: string, count: number): Float32Array {
  const generator = new wasm.TorchGenerator(BigInt(seed));
  if (op === 'rand') return generator.rand(count);
  if (op === 'randn') return generator.randn(count);
  // One value, 16 and one more: the third takes the cached half of the first pair.
  return Float32Array.from([1, 16, 1].flatMap((length) => [...generator.randn(length)]));
}

test('every float32 vector of torch, to the bit', () => {
  const vectors = table('torch_vectors.tsv').filter(([, , , dtype]) => dtype === 'float32');
  expect(vectors.length).toBe(30);
  for (const [op = '', seed = '', count, , digest] of vectors) {
    expect(digestOf(draw(op, seed, Number(count))), `${op} of seed ${seed}, ${count} values`).toBe(digest);
  }
});

test('every vector of the philox generator, to the bit', () => {
  for (const [seed = '', stream, count, digest] of table('philox_vectors.tsv')) {
    const values = wasm.philoxNormals(BigInt(seed), Number(stream), Number(count));
    expect(digestOf(values), `seed ${seed}, stream ${stream}`).toBe(digest);
  }
});

test('seeds and timesteps of draws', () => {
  const image = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
  const seed = wasm.drawSeed(image, '512x512+0+37f', 3, 42n);
  const digest = createHash('sha256').update(`${image}|512x512+0+37f|3|42`).digest();
  expect(seed).toBe(digest.readBigUInt64BE(0));
  const timestep = wasm.stratifiedTimestep(seed, 3, 4, 0, 1000);
  expect(timestep).toBeGreaterThanOrEqual(750);
  expect(timestep).toBeLessThan(1000);
  expect(() => wasm.drawSeed(image, '512', 0, 0n)).toThrow(/is not a view/);
});
