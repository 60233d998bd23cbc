export { cudaNumber, DEVICE_NAME, type Device, type DeviceName, isDeviceName } from '../device.ts';
export type { AddonCandidate, NativeAddon } from './candidate.ts';
export { concat } from './concat.ts';
export { CUDA_PACKAGE, type CudaProblem, type CudaState, deviceProblem } from './cuda/inspect.ts';
export { cuda, freeCudaMemory, whyNoCuda } from './cuda/state.ts';
export { Ema, type EmaOptions } from './ema.ts';
export { Engine } from './engine.ts';
export type {
  MemoryQuestion,
  PredictedMemory,
  PredictionKind,
  ProfiledOperation,
  SamplerKind,
  Spacing,
} from './generated/binding.js';
export { gradients } from './gradients.ts';
export { Handle } from './handle.ts';
export { addon, addonCandidates } from './load.ts';
export { type EngineOptions, loadEngine } from './load-engine.ts';
export {
  applyAdapter,
  applyUnetAdapter,
  Lora,
  type LoraSettings,
  openAdaptedUnet,
  type WeightedAdapter,
} from './lora.ts';
export { componentFolder, type Model, type ModelKind, openModel, vaePath } from './model.ts';
export { type NoiseGenerator, noise } from './noise.ts';
export {
  createOptimizer,
  type LayerRate,
  Optimizer,
  type OptimizerOptions,
} from './optimizer.ts';
export { unwrap } from './outcome.ts';
export { encodePng, readPicture } from './picture.ts';
export { Sampler, type SamplerOptions, type StepInputs } from './sampler.ts';
export { type NoiseLevel, Schedule } from './schedule.ts';
export { keep, scope } from './scope.ts';
export type { Shape } from './shape.ts';
export { Tape } from './tape.ts';
export { enqueueTensor, Tensor } from './tensor.ts';
export { inspectTensors, readTensors, writeTensors } from './tensor-file.ts';
export { type EncodedPrompts, TextEncoder, type TextOutputs } from './text-encoder.ts';
export {
  type GradOptions,
  type Precision,
  type QuantFormat,
  Unet,
  type UnetInputName,
  type UnetInputs,
  type UnetOutputs,
} from './unet.ts';
export { type Tiling, Vae } from './vae.ts';
