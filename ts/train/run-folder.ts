import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { inputError } from '../errors.ts';
import { type ResolvedRecipe, recipeSchema } from '../recipe/index.ts';
import { type Checkpoint, listCheckpoints, readJsonIfThere, writeDurably } from './checkpoints.ts';
import { differingKeys, inWords } from './differences.ts';
import { LOCK, lockFolder } from './folder-lock.ts';

/**
 * Parts of a recipe that change no bit of what is trained: a run may be resumed with others. They say for people what it
 * is, where things lie (a checkpoint names cache, images, student and teachers by their digests), and what is written or
 * looked at on the way. A number in brackets stands for every one. The device does change bits, as another CPU does: a
 * checkpoint has the class of its kernels, and going on with another is said.
 */
const FREE_KEYS = [
  '$schema',
  'name',
  'device',
  'output',
  'cache.dir',
  'student.model',
  'student.encoders',
  'teachers[0].model',
  'teachers[0].lora[0].file',
  'data[0].images',
  'data[0].masks',
  'sampling',
  'training.checkpoint',
  'training.validation.every',
  'training.save',
];

/** As {@link FREE_KEYS}, but for the value itself alone: a LoRA's file, and no part of a LoRA that is made. */
const FREE_VALUES = /^student\.train\.(lora|loras\.[a-z0-9_-]+)$/;

/** Differences named in an error message; beyond these a list helps nobody. */
const MAX_NAMED_DIFFERENCES = 8;

/** What a trained student is called: the file of one LoRA, or a folder: of a UNet, or of LoRAs by their names. */
export function studentName({ student: { train } }: ResolvedRecipe, name: string): string {
  return train !== 'unet' && 'lora' in train ? `${name}.safetensors` : name;
}

/** The folder of a run. */
export interface RunFolder {
  readonly path: string;
  readonly checkpoints: string;
  readonly metrics: string;
  readonly samples: string;
  /** The trained student: a diffusers UNet folder, an adapter's file, or a folder of several. */
  readonly student: string;
  /** Checkpoint to go on from; none for a fresh run. */
  readonly resumeFrom: Checkpoint | undefined;
  /**
   * Makes the folder, keeps other processes out of it and writes the recipe; until then nothing is written. Gives what
   * releases the folder again.
   *
   * @throws PotstillError when another process is writing into it
   */
  claim(): Promise<() => Promise<void>>;
}

/**
 * Looks into a run's folder: whether it is free or the same recipe's, and where to go on.
 *
 * @throws PotstillError when the folder belongs to another recipe, holds something else, or holds a run already and
 *   `resume` is not set
 */
export async function openRunFolder(path: string, recipe: ResolvedRecipe, resume: boolean): Promise<RunFolder> {
  const checkpoints = join(path, 'checkpoints');
  const recipePath = join(path, 'recipe.json');
  await requireOurFolder(path);
  const before = await readJsonIfThere(recipePath);
  if (before !== undefined) requireSameRecipe(path, before, recipe);
  const resumeFrom = (await listCheckpoints(checkpoints)).at(-1);
  if (resumeFrom !== undefined && !resume) {
    throw inputError('ERR_RUN_EXISTS', `the folder holds a run of this recipe, at step ${resumeFrom.step}`, {
      where: path,
      remedy: 'Add --resume to go on with it, or name another `output`.',
    });
  }
  return {
    path,
    checkpoints,
    metrics: join(path, 'metrics.jsonl'),
    samples: join(path, 'samples'),
    student: join(path, studentName(recipe, 'student')),
    resumeFrom,
    claim: async () => {
      await mkdir(path, { recursive: true });
      const release = await lockFolder(path);
      // Another process may have run here since the folder was looked into: caches take minutes to build.
      const now = (await listCheckpoints(checkpoints)).at(-1)?.step;
      if (now !== resumeFrom?.step) {
        await release();
        throw inputError('ERR_RUN_EXISTS', `another process has trained here meanwhile, to step ${now ?? 0}`, {
          where: path,
          remedy: 'Call it again with --resume to go on from there, or name another `output`.',
        });
      }
      await writeDurably(recipePath, `${JSON.stringify(recipe, undefined, 2)}\n`);
      return release;
    },
  };
}

/** A folder with files of its own and no `recipe.json` is somebody else's: nothing is written into it. */
async function requireOurFolder(path: string): Promise<void> {
  const names = await readdir(path).catch((error: NodeJS.ErrnoException): string[] => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  if (names.length === 0 || names.includes('recipe.json') || names.every((name) => name.startsWith(LOCK))) return;
  throw inputError('ERR_RUN_FOREIGN_FOLDER', 'the folder is not empty and holds no run', {
    where: path,
    remedy: 'Name another folder as `output` in the recipe.',
  });
}

/** Compares what fixes a run's bits; steps may grow while the schedule is constant, for then no past step changes. */
function requireSameRecipe(path: string, before: unknown, after: ResolvedRecipe): void {
  const free = new Set(FREE_KEYS);
  if (after.training.schedule.id === 'constant') free.add('training.steps');
  // What an earlier version wrote lacks the keys that have come since, and means their defaults.
  const parsed = recipeSchema.safeParse(before);
  const was: unknown = parsed.success ? parsed.data : before;
  const differing = differingKeys(was, after).filter((key) => {
    const place = key.replaceAll(/\[\d+\]/g, '[0]');
    return !FREE_VALUES.test(place) && ![...free].some((name) => isWithin(place, name));
  });
  if (differing.length === 0) return;
  const named = differing
    .slice(0, MAX_NAMED_DIFFERENCES)
    .map((key) => `${key} (${inWords(valueAt(was, key))}, now ${inWords(valueAt(after, key))})`);
  const more = differing.length - named.length;
  throw inputError(
    'ERR_RUN_OTHER_RECIPE',
    `the folder holds a run of another recipe: ${named.join(', ')}${more > 0 ? ` and ${more} more` : ''}`,
    { where: join(path, 'recipe.json'), remedy: 'Name another folder as `output`, or set these keys back.' },
  );
}

function isWithin(key: string, name: string): boolean {
  return key === name || key.startsWith(`${name}.`) || key.startsWith(`${name}[`);
}

/** The value at a path of {@link differingKeys}. */
function valueAt(value: unknown, path: string): unknown {
  let at = value;
  for (const key of path.split(/[.[\]]/).filter((part) => part !== '')) {
    if (typeof at !== 'object' || at === null) return undefined;
    at = (at as Record<string, unknown>)[key];
  }
  return at;
}
