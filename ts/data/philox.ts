import { createHash } from 'node:crypto';

/** A 64-bit Philox key as two words, low word first. */
export type PhiloxKey = readonly [low: number, high: number];

const ROUNDS = 10;
const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;
const TWO_POW_MINUS_32 = 2 ** -32;

/** High 32 bits of the product of two unsigned 32-bit words: JavaScript has no such multiplication. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(carry / 0x10000)) >>> 0;
}

/**
 * Philox4x32-10 (Salmon et al., 2011): four random words for a key and a counter of four words. The same generator makes
 * the noise of caches in Rust; here it decides order, dropout and seeds, of which there are a few per step.
 */
export function philox(
  key: PhiloxKey,
  counter: readonly [number, number, number, number],
): [number, number, number, number] {
  let [k0, k1] = key;
  let [c0, c1, c2, c3] = counter;
  for (let round = 0; round < ROUNDS; round += 1) {
    const high0 = multiplyHigh(MULTIPLIER_0, c0);
    const low0 = Math.imul(MULTIPLIER_0, c0) >>> 0;
    const high1 = multiplyHigh(MULTIPLIER_1, c2);
    const low1 = Math.imul(MULTIPLIER_1, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + WEYL_0) >>> 0;
    k1 = (k1 + WEYL_1) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/**
 * The 64-bit seed of one purpose: the first 8 bytes, big-endian, of SHA-256 over the parts joined by `|`. The purpose
 * comes first, so that no two uses of one run's seed ever share a stream.
 */
export function seedOf(purpose: string, ...parts: readonly (number | string)[]): bigint {
  return createHash('sha256')
    .update([purpose, ...parts].join('|'))
    .digest()
    .readBigUInt64BE(0);
}

/** As {@link seedOf}, as a number: the upper 53 bits, for what takes a run's seed. */
export function deriveSeed(purpose: string, ...parts: readonly (number | string)[]): number {
  return Number(seedOf(purpose, ...parts) >> 11n);
}

/** A 64-bit seed as a Philox key. */
export function keyOf(seed: bigint): PhiloxKey {
  return [Number(seed & 0xffffffffn), Number((seed >> 32n) & 0xffffffffn)];
}

/** `count` uniform numbers in [0, 1), a pure function of the seed. */
export function uniforms(seed: bigint, count: number): Float64Array {
  const key = keyOf(seed);
  const values = new Float64Array(count);
  for (let block = 0; block * 4 < count; block += 1) {
    const words = philox(key, [block, 0, 0, 0]);
    for (const [lane, word] of words.entries()) {
      const index = block * 4 + lane;
      if (index < count) values[index] = word * TWO_POW_MINUS_32;
    }
  }
  return values;
}
