import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Engine, encodePng, noise, scope } from '../../ts/native/index.ts';

/** Side of the pictures: what the tiny model was made for. */
const SIDE = 64;
const COLOURS = ['red', 'green', 'blue', 'white'];

/**
 * A folder of captioned pictures of soft noise, no two alike.
 *
 * @param first number that the noise starts from: other numbers, other pictures
 */
export async function writeTinyImages(engine: Engine, folder: string, count: number, first = 0): Promise<void> {
  mkdirSync(folder, { recursive: true });
  for (let index = 0; index < count; index += 1) {
    const png = await scope(() => {
      const seeds = [BigInt(first + index)];
      const pixels = noise(engine, { generator: 'philox', seeds, shape: [3, SIDE, SIDE] }).scale(0.5);
      return encodePng(pixels);
    });
    writeFileSync(join(folder, `${index}.png`), png);
    writeFileSync(join(folder, `${index}.txt`), `a ${COLOURS[index % COLOURS.length]} picture`);
  }
}
