import { createInterface } from 'node:readline';
import { peakBytes } from '../../ts/bench/index.ts';
import type { Engine } from '../../ts/native/index.ts';

/** potstill's side of a benchmark, as a program: see `peer.ts`. */
export async function serve(introduction: object, run: () => Promise<number>): Promise<void> {
  process.stdout.write(`${JSON.stringify(introduction)}\n`);
  for await (const _ of createInterface({ input: process.stdin })) {
    const seconds = await run();
    process.stdout.write(`${JSON.stringify({ seconds, peakBytes: peakBytes() })}\n`);
  }
}

/** Values as a line of text holds them: base64 of little-endian f32. */
export function packed(values: Float32Array): string {
  return Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString('base64');
}

/** Runs something once: what it gives, and the floating-point operations of its matrix products. */
export async function counted<T>(engine: Engine, run: () => Promise<T>): Promise<{ value: T; flops: number }> {
  engine.startProfile();
  const value = await run();
  const operations = await engine.takeProfile();
  return { value, flops: operations.reduce((sum, { flops }) => sum + flops, 0) };
}
