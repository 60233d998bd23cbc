import { createInterface } from 'node:readline';
import { peakBytes } from '../../ts/bench/index.ts';

/** potstill's side of a benchmark, as a program: see `peer.ts`. */
export async function serve(introduction: object, run: () => Promise<number>): Promise<void> {
  process.stdout.write(`${JSON.stringify(introduction)}\n`);
  for await (const _ of createInterface({ input: process.stdin })) {
    const seconds = await run();
    process.stdout.write(`${JSON.stringify({ seconds, peakBytes: peakBytes() })}\n`);
  }
}
