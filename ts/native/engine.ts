import type { Device } from '../device.ts';
import type { NativeAddon } from './candidate.ts';
import type { Engine as NativeEngine, ProfiledOperation } from './generated/binding.js';
import { unwrap } from './outcome.ts';

/**
 * A device's engine thread. Operations on its handles are enqueued in the order of the calls and return at once; only
 * reading values and long jobs return promises. An operation that fails fills its handle with the error, which the next
 * read of anything made of it throws.
 */
export class Engine {
  readonly device: Device;
  /** Which of the CPU's instruction sets the kernels use, or `cuda`; on a CPU, results are the same to the bit within one class. */
  readonly kernelClass: string;
  /** The same for products in bf16; `-bf16-emulated` at its end says that this CPU has no instructions for them. */
  readonly bf16KernelClass: string;
  /** The addon's side; for the modules of `ts/native` and `ts/cache`. */
  readonly native: NativeEngine;
  /** What it was loaded from: objects of one addon mean nothing to another. */
  readonly addon: NativeAddon;
  #lastId = 0;
  #live = 0;

  constructor(native: NativeEngine, addon: NativeAddon, device: Device) {
    this.native = native;
    this.addon = addon;
    this.device = device;
    this.kernelClass = device === 'cpu' ? addon.kernelClass() : 'cuda';
    this.bf16KernelClass = device === 'cpu' ? addon.bf16KernelClass() : 'cuda';
  }

  /** Threads that one operation may use. Results do not depend on it. */
  get threads(): number {
    return this.native.threads;
  }

  /** Handles that were made and not yet freed. */
  get liveHandles(): number {
    return this.#live;
  }

  /** Handles that the engine's thread holds, once everything enqueued before has run. */
  async filledHandles(): Promise<number> {
    return unwrap(await this.native.liveHandles());
  }

  /** Waits until everything enqueued before has run; throws the first failure of an operation that made no handle. */
  async settled(): Promise<void> {
    await this.filledHandles();
  }

  /** Times operations from here on, for {@link Engine.takeProfile}: one profile at a time in a process. */
  startProfile(): void {
    this.native.startProfile();
  }

  /** Ends the profile once everything enqueued before has run: every operation on every shape, slowest first. */
  async takeProfile(): Promise<readonly ProfiledOperation[]> {
    return unwrap(await this.native.takeProfile());
  }

  /** A number for a new handle. */
  allocate(): number {
    this.#live += 1;
    this.#lastId += 1;
    return this.#lastId;
  }

  /** Frees handles by number. */
  release(ids: number[]): void {
    this.#live -= ids.length;
    this.native.release(ids);
  }
}
