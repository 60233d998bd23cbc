import { machineError } from '../errors.ts';
import type { Device } from '../native/index.ts';
import { availableMemory } from './device-memory.ts';

/** Something that takes memory. */
export interface MemoryNeed {
  /** Such as `the student's weights`. */
  readonly what: string;
  readonly bytes: number;
}

/**
 * Refuses work that cannot fit, before anything is loaded: an allocation that fails ends the process, and the kernel
 * ends what takes more than there is. What is asked for is a lower bound (activations come on top and depend on the
 * operations), so nothing that fits is refused.
 *
 * @param options.where what is to be loaded
 * @param options.device where it is loaded to; the CPU unless given
 * @param options.available bytes that can be had, for tests; asked of the machine unless given
 * @throws PotstillError `ERR_MEMORY`, of kind `machine`, with the bytes needed and free
 */
export async function requireMemory(
  needs: readonly MemoryNeed[],
  options: {
    readonly where: string;
    readonly remedy: string;
    readonly device?: Device | undefined;
    readonly available?: number | undefined;
  },
): Promise<void> {
  const needed = needs.reduce((sum, { bytes }) => sum + bytes, 0);
  const { device = 'cpu', where, remedy } = options;
  const available = options.available ?? (await availableMemory(device));
  if (needed <= available) return;
  const parts =
    needs.length > 1 ? ` (${needs.map(({ what, bytes }) => `${what} ${gigabytes(bytes)}`).join(', ')})` : '';
  const what = `not enough memory: at least ${gigabytes(needed)} needed${parts}, ${gigabytes(available)} free${device === 'cpu' ? '' : ` on ${device}`}`;
  throw machineError('ERR_MEMORY', what, { where, remedy });
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(bytes < 1e10 ? 2 : 0)} GB`;
}
