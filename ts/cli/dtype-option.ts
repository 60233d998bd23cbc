import { Option } from 'commander';
import type { Engine, Precision } from '../native/index.ts';
import type { Progress } from '../progress.ts';

/** `--dtype` of the commands that run a UNet. */
export function dtypeOption(): Option {
  return new Option('--dtype <type>', "what the UNet's matrices are kept and multiplied in; sums are f32")
    .choices(['f32', 'bf16'])
    .default('f32');
}

/** The kernels that a UNet of this precision uses. */
export function kernelsOf(engine: Engine, dtype: Precision): string {
  return dtype === 'bf16' ? engine.bf16KernelClass : engine.kernelClass;
}

/** Says so when bf16 is no faster than f32 here. */
export function noteEmulation(engine: Engine, dtype: Precision, progress: Progress): void {
  if (!kernelsOf(engine, dtype).endsWith('-emulated')) return;
  progress.log(
    'This CPU has no instructions for bf16: its products are computed as f32, right but slower than --dtype f32; the memory is halved all the same.',
  );
}
