import { join } from 'node:path';
import { inputError } from '../errors.ts';
import type { Progress } from '../progress.ts';
import { type Checkpoint, type CheckpointState, readCheckpointState, writeCheckpoint } from './checkpoints.ts';
import { inWords } from './differences.ts';
import { LATER_SEALS } from './seals.ts';
import type { MethodRun, TrainerParts } from './trainer.ts';

/** Files of a checkpoint. */
const FILES = {
  student: 'student.safetensors',
  text: 'text.safetensors',
  optimizer: 'optimizer.safetensors',
  ema: 'ema.safetensors',
} as const;

/** Writes the whole state after `step` updates as a checkpoint. */
export function saveState(
  checkpoints: string,
  { student, loras, optimizers, ema, methods }: TrainerParts,
  state: Pick<CheckpointState, 'step' | 'seconds' | 'cache'>,
): Promise<Checkpoint> {
  const whole = {
    version: 1 as const,
    ...state,
    kernelClass: student.unet.engine.kernelClass,
    method: Object.assign({}, ...methods.map((run, part) => named(run, part))) as Record<string, number>,
  };
  return writeCheckpoint(checkpoints, whole, async (folder) => {
    if (loras.length === 0) await student.unet.saveWeights(join(folder, FILES.student));
    for (const { name, lora, text } of loras) {
      await lora.saveWeights(join(folder, fileOf(FILES.student, name)));
      await text?.saveWeights(join(folder, fileOf(FILES.text, name)));
    }
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
  { student, loras, optimizers, ema, methods }: TrainerParts,
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
  if (loras.length === 0) await student.unet.loadWeights(join(checkpoint.folder, FILES.student));
  for (const { name, lora, text } of loras) {
    await lora.loadWeights(join(checkpoint.folder, fileOf(FILES.student, name)));
    await text?.loadWeights(join(checkpoint.folder, fileOf(FILES.text, name)));
  }
  await optimizers.student.load(join(checkpoint.folder, FILES.optimizer));
  await ema?.load(join(checkpoint.folder, FILES.ema));
  for (const [part, run] of methods.entries()) {
    const names = Object.keys(named(run, part));
    for (const [index, key] of Object.keys(run.state).entries()) {
      run.state[key] = state.method[names[index] ?? key] ?? run.state[key] ?? 0;
    }
  }
  return state;
}

/** The file of a LoRA in a checkpoint: its part on the UNet, or on the text encoders. */
function fileOf(part: string, name: string | undefined): string {
  return name === undefined ? part : part.replace('.', `-${name}.`);
}

/** A method's state under the names of a checkpoint: its own for the recipe's method, numbered for those of data entries. */
function named({ state }: MethodRun, part: number): Record<string, number> {
  return Object.fromEntries(Object.entries(state).map(([key, value]) => [part === 0 ? key : `${part}.${key}`, value]));
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
