// Runs the WASM module in Node and compares it with torch's vectors and with native reports.
//
//   wasm-pack build crates/potstill-wasm --release --target web --out-dir ../../target/wasm --out-name potstill_wasm
//   cargo run --release -p potstill-cache --example synthetic -- target/synthetic
//   cargo run --release -p potstill-cache --example verify -- target/synthetic > target/synthetic.json
//   node crates/potstill-wasm/tests/parity.mjs target/wasm target/synthetic target/synthetic.json
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { closeSync, lstatSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const [moduleFolder, cache, nativeReport] = process.argv.slice(2).map((path) => resolve(path));
const wasm = await import(pathToFileURL(join(moduleFolder, 'potstill_wasm.js')));
wasm.initSync({ module: readFileSync(join(moduleFolder, 'potstill_wasm_bg.wasm')) });

const sha256 = (values) =>
  createHash('sha256').update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength)).digest('hex');

let vectors = 0;
const file = new URL('../../potstill-noise/tests/torch_vectors.tsv', import.meta.url);
for (const line of readFileSync(file, 'utf8').split('\n')) {
  const [op, seed, count, dtype, digest] = line.split('\t');
  if (dtype !== 'float32') continue;
  const generator = new wasm.TorchGenerator(BigInt(seed));
  const draws = {
    randn: () => generator.randn(Number(count)),
    rand: () => generator.rand(Number(count)),
    'randn(1,16,1)': () => Float32Array.from([1, 16, 1].flatMap((n) => [...generator.randn(n)])),
  };
  assert.equal(sha256(draws[op]()), digest, line);
  vectors += 1;
}
for (const line of readFileSync(new URL('../../potstill-noise/tests/philox_vectors.tsv', import.meta.url), 'utf8').split('\n')) {
  if (line === '' || line.startsWith('#')) continue;
  const [seed, stream, count, digest] = line.split('\t');
  assert.equal(sha256(wasm.philoxNormals(BigInt(seed), Number(stream), Number(count))), digest, line);
  vectors += 1;
}

const source = {
  list: () =>
    readdirSync(cache, { recursive: true, withFileTypes: true })
      .filter((entry) => !entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name).slice(cache.length + 1)),
  size: (path) => lstatSync(join(cache, path), { throwIfNoEntry: false })?.size ?? fail('missing'),
  read: (path, offset, length) => {
    const buffer = new Uint8Array(length);
    const descriptor = openSync(join(cache, path));
    try {
      return buffer.subarray(0, readSync(descriptor, buffer, 0, length, offset));
    } finally {
      closeSync(descriptor);
    }
  },
};
function fail(kind) {
  throw { kind };
}
let seen = 0;
const start = performance.now();
const report = wasm.verify(source, 2, (done) => {
  seen = done;
});
const seconds = (performance.now() - start) / 1000;
assert.equal(report, readFileSync(nativeReport, 'utf8'));
assert.throws(() => wasm.verify({ ...source, list: () => [] }, 2), /^Error: no-cache: /);
assert.throws(() => wasm.verify(source, 3), /^Error: level: /);

for (const [name, draw] of [
  ['philox', (n) => wasm.philoxNormals(1n, 0, n)],
  ['torch', (n) => new wasm.TorchGenerator(1n).randn(n)],
]) {
  const from = performance.now();
  draw(1 << 22);
  console.log(`${name}: ${((1 << 22) / (performance.now() - from) / 1e3).toFixed(0)} million normals per second`);
}
console.log(`${vectors} vectors, ${seen} bytes verified in ${seconds.toFixed(3)} s: the same report, ${report.length} bytes`);
