import type { Engine } from '../native/engine.ts';
import type { ImageView } from '../native/generated/binding.js';
import { enqueueTensor, type Tensor } from '../native/tensor.ts';
import { sizeOfView } from './data/view.ts';

/**
 * Views of images, all of one size, as pixels in [−1, 1], [B, 3, H, W]. A file whose digest is not the planned one fails
 * the operation, as does one that cannot be decoded.
 */
export function loadPixels(engine: Engine, images: readonly ImageView[]): Tensor {
  const { width, height } = sizeOfView(images[0]?.view ?? '');
  return enqueueTensor(engine, [images.length, 3, height, width], (id) => engine.native.cachePixels(id, [...images]));
}
