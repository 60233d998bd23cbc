import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { inputError } from '../errors.ts';

/** Digits of a step in a folder's name: enough that names sort as numbers do for any run on one machine. */
const STEP_DIGITS = 6;
const FINISHED = /^step-(\d{6,})$/;
/** Prefix of a checkpoint that is being written; only a crash leaves one behind. */
const UNFINISHED = '.writing-';
/** `state.json` and `recipe.json` are kilobytes; a recipe with thousands of prompts is still far below this. */
const JSON_LIMIT = 16 * 1024 * 1024;

/** What `state.json` holds beside the tensors: everything else follows from the recipe and the step. */
export const checkpointState = z.strictObject({
  version: z.literal(1),
  /** Finished updates. Data order, dropout, noise and learning rate are functions of it. */
  step: z.int().nonnegative(),
  /** Class of CPU kernels that computed the run: bits are promised within one class only. */
  kernelClass: z.string(),
  /** Digests of the cache's seals that the run was trained on, by component. */
  cache: z.record(z.string(), z.string()),
  /** Wall-clock seconds spent on the steps so far. */
  seconds: z.number().nonnegative(),
  /** What the method keeps between steps. */
  method: z.record(z.string(), z.number()),
});

/** Contents of a checkpoint's `state.json`. */
export type CheckpointState = z.infer<typeof checkpointState>;

/** A finished checkpoint. */
export interface Checkpoint {
  readonly step: number;
  readonly folder: string;
}

/** The folder's name for a step: `step-000100`. */
export function stepName(step: number): string {
  return `step-${String(step).padStart(STEP_DIGITS, '0')}`;
}

/** The finished checkpoints of a run, oldest first; none when the run has none. */
export async function listCheckpoints(checkpoints: string): Promise<Checkpoint[]> {
  const names = await readdir(checkpoints).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  return names
    .flatMap((name) => {
      const digits = FINISHED.exec(name)?.[1];
      return digits === undefined ? [] : [{ step: Number(digits), folder: join(checkpoints, name) }];
    })
    .sort((a, b) => a.step - b.step);
}

/**
 * Writes a checkpoint: all files into a hidden folder, each made durable, then one rename. A reader sees a whole
 * checkpoint or none.
 *
 * @param writeTensors writes the tensor files into the folder it is given, durably
 */
export async function writeCheckpoint(
  checkpoints: string,
  state: CheckpointState,
  writeTensors: (folder: string) => Promise<void>,
): Promise<Checkpoint> {
  const folder = join(checkpoints, stepName(state.step));
  const temporary = join(checkpoints, `${UNFINISHED}${stepName(state.step)}`);
  await rm(temporary, { recursive: true, force: true });
  await mkdir(temporary, { recursive: true });
  await writeTensors(temporary);
  await writeDurably(join(temporary, 'state.json'), `${JSON.stringify(state, undefined, 2)}\n`);
  await syncFolder(temporary);
  await rm(folder, { recursive: true, force: true });
  await rename(temporary, folder);
  await syncFolder(checkpoints);
  return { step: state.step, folder };
}

/**
 * Reads and checks a checkpoint's `state.json`.
 *
 * @throws PotstillError `ERR_CHECKPOINT` when it is damaged or another program's
 */
export async function readCheckpointState({ folder }: Checkpoint): Promise<CheckpointState> {
  const path = join(folder, 'state.json');
  const found = checkpointState.safeParse(await readJsonIfThere(path));
  if (found.success) return found.data;
  const [issue] = found.error.issues;
  throw inputError('ERR_CHECKPOINT', `this is not a checkpoint's state: ${issue?.message ?? ''}`, {
    where: path,
    remedy: `Remove ${folder} to go on from the checkpoint before it.`,
    cause: found.error,
  });
}

/** Removes all but the newest `keep` checkpoints, and what crashes left half-written. */
export async function pruneCheckpoints(checkpoints: string, keep: number): Promise<void> {
  const finished = await listCheckpoints(checkpoints);
  const stale = finished.slice(0, Math.max(0, finished.length - keep)).map(({ folder }) => folder);
  const names = await readdir(checkpoints);
  const unfinished = names.filter((name) => name.startsWith(UNFINISHED)).map((name) => join(checkpoints, name));
  for (const folder of [...stale, ...unfinished]) await rm(folder, { recursive: true, force: true });
}

/** Writes a file under another name, makes it durable and renames it into place. */
export async function writeDurably(path: string, contents: string): Promise<void> {
  const temporary = `${path}.writing`;
  const file = await open(temporary, 'w');
  try {
    await file.writeFile(contents);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
}

/** Makes a folder's entries durable, where the platform lets folders be synced (Windows does not). */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(folder);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Reads a JSON file of a run, or undefined when there is none.
 *
 * @throws PotstillError `ERR_RUN_FILE` when it is not JSON or far too large
 */
export async function readJsonIfThere(path: string): Promise<unknown> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (found === undefined) return undefined;
  const remedy = 'Restore the file, or start a new run with another `output`.';
  if (found.size > JSON_LIMIT) {
    throw inputError('ERR_RUN_FILE', `the file has ${found.size} bytes, more than potstill ever writes into it`, {
      where: path,
      remedy,
    });
  }
  try {
    return JSON.parse(await readFile(path, 'utf8')) as unknown;
  } catch (cause) {
    throw inputError('ERR_RUN_FILE', 'the file is not JSON', { where: path, remedy, cause });
  }
}
