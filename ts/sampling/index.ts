export { type Conditioning, repeat, stack, wholePictureTimeIds } from './conditioning.ts';
export { grid } from './grid.ts';
export {
  describe,
  PARAMETERS,
  Painter,
  type PaintingOptions,
  type PictureSettings,
  type WeightedUnet,
} from './painter.ts';
export { withText } from './png-text.ts';
export { asKind, averaged, guided, type Predictor } from './predictor.ts';
export { type LatentSampling, sampleLatents } from './sample-latents.ts';
