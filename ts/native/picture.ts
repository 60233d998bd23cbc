import type { Engine } from './engine.ts';
import { allocateFor } from './load-handle.ts';
import { unwrap } from './outcome.ts';
import { Tensor } from './tensor.ts';

/** A PNG, JPEG or WebP file as pixels in [−1, 1], [1, 3, H, W]; alpha is laid over white. */
export async function readPicture(engine: Engine, file: string): Promise<Tensor> {
  const [id, { width, height }] = await allocateFor(engine, (out) => engine.native.readPicture(out, file));
  return new Tensor(engine, id, [1, 3, height, width]);
}

/** A PNG of pixels in [−1, 1], [1, 3, H, W]; what is beyond is clamped. */
export async function encodePng(pixels: Tensor): Promise<Uint8Array> {
  return unwrap(await pixels.engine.native.encodePng(pixels.id));
}
