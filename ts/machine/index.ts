export type { CudaDeviceState, CudaFacts } from './cuda.ts';
export { availableMemory } from './device-memory.ts';
export { type ComputeDevice, inspectMachine, type Machine, type MachineProblem } from './inspect.ts';
export { unetBytes, weightBytes } from './model-memory.ts';
export { type ModelPart, requireModelMemory, requireTrainingMemory, trainingNeeds } from './plan-memory.ts';
export { type MemoryNeed, requireMemory } from './require-memory.ts';
