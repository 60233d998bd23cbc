import { cudaNumber, type Device, freeCudaMemory } from '../native/index.ts';
import { inspectMemory } from './memory.ts';

/** Bytes that can be had where a device computes: main memory, or the device's own. */
export async function availableMemory(device: Device): Promise<number> {
  return device === 'cpu' ? (await inspectMemory()).available : freeCudaMemory(cudaNumber(device));
}
