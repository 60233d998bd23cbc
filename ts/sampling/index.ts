export {
  type Conditioning,
  repeat,
  type Size,
  type SizeConditioning,
  sizeIds,
  stack,
  withoutText,
} from './conditioning.ts';
export { grid } from './grid.ts';
export { stepNoise, unitNoise } from './noise.ts';
export {
  MOST_WHOLE_PIXELS,
  Painter,
  type PaintingOptions,
  type VaeTiling,
  type WeightedUnet,
} from './painter.ts';
export {
  describe,
  PARAMETERS,
  type PictureModel,
  type PictureModels,
  pictureRecipe,
  RECIPE,
  withPictureText,
} from './picture-text.ts';
export { withText } from './png-text.ts';
export { asKind, averaged, type GuidanceOptions, guided, hybrid, type Predictor } from './predictor.ts';
export { condition, type PromptOptions, promptConditions } from './prompt-conditions.ts';
export { type LatentSampling, sampleLatents } from './sample-latents.ts';
export type { BaseSteps, PictureSettings, PromptSyntax, Unconditional } from './settings.ts';
