import { InvalidArgumentError } from 'commander';

/** Most that a count on the command line may be; what is larger is a slip. */
const MAX_COUNT = 100_000;

/** A whole number from 1 on. */
export function parseCount(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= MAX_COUNT && text.trim() !== '') return value;
  throw new InvalidArgumentError(`It must be a whole number from 1 to ${MAX_COUNT}.`);
}

/** A whole number from 0 on. */
export function parseNatural(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 0 && value <= MAX_COUNT && text.trim() !== '') return value;
  throw new InvalidArgumentError(`It must be a whole number from 0 to ${MAX_COUNT}.`);
}

/** A whole number that JSON holds exactly, negative ones included. */
export function parseInteger(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && text.trim() !== '') return value;
  throw new InvalidArgumentError('It must be a whole number.');
}

/** A finite number. */
export function parseFinite(text: string): number {
  const value = Number(text);
  if (Number.isFinite(value) && text.trim() !== '') return value;
  throw new InvalidArgumentError('It must be a number.');
}

/** A number from 0 to 1. */
export function parseShare(text: string): number {
  const value = Number(text);
  if (value >= 0 && value <= 1 && text.trim() !== '') return value;
  throw new InvalidArgumentError('It must be a number from 0 to 1.');
}

/** An unsigned 64-bit seed. */
export function parseSeed(text: string): bigint {
  if (/^\d{1,20}$/.test(text)) {
    const seed = BigInt(text);
    if (seed < 2n ** 64n) return seed;
  }
  throw new InvalidArgumentError('Seeds are whole numbers from 0 to 2^64 − 1.');
}

/** `FILE` or `FILE:WEIGHT`. What follows the last colon is a weight only if it is a number: `C:\a.safetensors` is a path. */
export function parseAdapter(text: string): { file: string; weight: number } {
  const [, file, number] = /^(.+):([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)$/i.exec(text) ?? [];
  return { file: file ?? text, weight: file === undefined ? 1 : Number(number) };
}

/** Several seeds, separated by commas. */
export function parseSeeds(text: string): readonly bigint[] {
  return text.split(',').map((part) => parseSeed(part.trim()));
}

/** Sizes of axes, separated by commas. */
export function parseShape(text: string): readonly number[] {
  return text.split(',').map((part) => parseCount(part.trim()));
}

/** `512x768`, width first; or one number for a square. */
export function parseSize(text: string): { width: number; height: number } {
  const [, width, height] = /^(\d{1,5})(?:x(\d{1,5}))?$/.exec(text) ?? [];
  if (width === undefined) throw new InvalidArgumentError('It must be WIDTHxHEIGHT in pixels, such as 512x768.');
  const size = { width: Number(width), height: Number(height ?? width) };
  if (size.width > 0 && size.height > 0) return size;
  throw new InvalidArgumentError('Neither side can be 0.');
}

/** `16,0`: pixels from the left and from the top. */
export function parseCrop(text: string): { left: number; top: number } {
  const [, left, top] = /^(\d{1,5}),(\d{1,5})$/.exec(text) ?? [];
  if (left === undefined || top === undefined) {
    throw new InvalidArgumentError('It must be LEFT,TOP in pixels, such as 16,0.');
  }
  return { left: Number(left), top: Number(top) };
}

/** Adds to the values of an option that may be given several times. */
export function collect(value: string, previous: readonly string[]): readonly string[] {
  return [...previous, value];
}
