export { inspectMachine, type Machine, type MachineProblem } from './inspect.ts';
export { requireModelMemory, requireTrainingMemory } from './plan-memory.ts';
export { type MemoryNeed, requireMemory } from './require-memory.ts';
