export { type Architecture, TEXT_ENCODERS, UNETS, VAE } from './architectures.ts';
export { WEIGHTS_SEED } from './inputs.ts';
export { type Iterations, type Measurement, measure, peakBytes } from './measure.ts';
export {
  hiddenStateBytes,
  pictureBytes,
  requireTextMemory,
  requireUnetMemory,
  requireVaeMemory,
  skipBytes,
} from './memory.ts';
export { drawNoise, NOISE_SEED, NOISE_SHAPE } from './noise.ts';
export { StepBenchmark, type StepMeasurement, type StepParts } from './step.ts';
export { TextBenchmark, type TextWorkload, textWeightsSeed } from './text.ts';
export { INPUT_SEEDS, LORA_RANK, LORA_SEED, UnetBenchmark, type UnetMode, type UnetWorkload } from './unet.ts';
export { VAE_INPUT_SEED, VaeBenchmark, type VaeMode, type VaeWorkload } from './vae.ts';
export { measureVerification, type VerifyBenchmarkOptions, type VerifyMeasurement } from './verify.ts';
