export { estimateMemory, type MemoryEstimate, type MemoryPhase } from './estimate.ts';
