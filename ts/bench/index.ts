export { ARCHITECTURES, type Architecture } from './architectures.ts';
export { type Iterations, type Measurement, measure, peakBytes } from './measure.ts';
export { requireUnetMemory, skipBytes } from './memory.ts';
export { drawNoise, NOISE_SEED, NOISE_SHAPE } from './noise.ts';
export { INPUT_SEEDS, UnetBenchmark, type UnetMode, type UnetWorkload, WEIGHTS_SEED } from './unet.ts';
