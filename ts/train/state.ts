import { join } from 'node:path';
import { inputError } from '../errors.ts';
import type { Progress } from '../progress.ts';
import { type Checkpoint, type CheckpointState, readCheckpointState, writeCheckpoint } from './checkpoints.ts';
import { inWords } from './differences.ts';
import { LATER_SEALS } from './seals.ts';
import type { TrainerParts } from './trainer.ts';

/** Files of a checkpoint. */
const FILES = { student: 'student.safetensors', optimizer: 'optimizer.safetensors', ema: 'ema.safetensors' } as const;

/** Writes the whole state after `step` updates as a checkpoint. */
export function saveState(
  checkpoints: string,
  { student, lora, optimizers, ema, methodState }: TrainerParts,
  state: Pick<CheckpointState, 'step' | 'seconds' | 'cache'>,
): Promise<Checkpoint> {
  const whole = {
    version: 1 as const,
    ...state,
    kernelClass: student.unet.engine.kernelClass,
    method: { ...methodState },
  };
  return writeCheckpoint(checkpoints, whole, async (folder) => {
    await (lora ?? student.unet).saveWeights(join(folder, FILES.student));
    await optimizers.student.save(join(folder, FILES.optimizer));
    await ema?.save(join(folder, FILES.ema));
  });
}

/**
 * Loads a checkpoint into a run's parts.
 *
 * @param seals digests of the cache's components as they are now
 * @throws PotstillError when the cache is not the one that the checkpoint was trained on
 */
export async function loadState(
  checkpoint: Checkpoint,
  { student, lora, optimizers, ema, methodState }: TrainerParts,
  seals: Readonly<Record<string, string>>,
  progress: Progress,
): Promise<CheckpointState> {
  const state = await readCheckpointState(checkpoint);
  requireSameCache(checkpoint, state.cache, seals);
  const kernels = student.unet.engine.kernelClass;
  if (state.kernelClass !== kernels) {
    progress.log(
      `The run so far was computed with ${state.kernelClass} kernels, this machine has ${kernels}: ` +
        'the rest is as good, but its bits are not those of an uninterrupted run.',
    );
  }
  await (lora ?? student.unet).loadWeights(join(checkpoint.folder, FILES.student));
  await optimizers.student.load(join(checkpoint.folder, FILES.optimizer));
  await ema?.load(join(checkpoint.folder, FILES.ema));
  Object.assign(methodState, state.method);
  return state;
}

function requireSameCache(
  { folder }: Checkpoint,
  before: Readonly<Record<string, string>>,
  now: Readonly<Record<string, string>>,
): void {
  const parts = Object.keys({ ...before, ...now })
    .filter((name) => before[name] !== undefined || !LATER_SEALS.has(name))
    .filter((name) => before[name] !== now[name]);
  if (parts.length === 0) return;
  const order = parts.includes('data') ? ' (pictures under the names that they had: these give their order)' : '';
  const named = parts.map((name) => `${name} (seal ${inWords(before[name])}, now ${inWords(now[name])})`);
  throw inputError(
    'ERR_RUN_OTHER_CACHE',
    `the run was trained on something else than what is there now: ${named.join(', ')}`,
    {
      where: join(folder, 'state.json'),
      remedy: `Put back the data${order}, models and cache of the run, or start a new run with another \`output\`.`,
    },
  );
}
