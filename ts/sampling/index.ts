export { type Conditioning, repeat, stack, wholePictureTimeIds } from './conditioning.ts';
export { grid } from './grid.ts';
export { describe, PARAMETERS, Painter, type PaintingOptions, type PictureSettings } from './painter.ts';
export { withText } from './png-text.ts';
export { type LatentSampling, sampleLatents, type WeightedUnet } from './sample-latents.ts';
