import { inputError } from '../../errors.ts';

/** A part of a build that several processes share. */
export interface Part {
  /** From 0 on. */
  readonly index: number;
  readonly count: number;
  /** Where that was read: `--shard 2/4`, `SLURM_ARRAY_TASK_ID=2 of 4`. */
  readonly source: string;
}

/** What of the environment tells parts of a job from one another. */
type Environment = Readonly<Record<string, string | undefined>>;

/** Most parts: more than there are shards in the largest caches, and a slip beyond it. */
const MAX_PARTS = 1_000_000;

/**
 * `i/n`: part i of n, from 1 on.
 *
 * @throws PotstillError `ERR_SHARD`
 */
export function parsePart(text: string): Part {
  const source = `--shard ${text}`;
  const [, number, count] = /^(\d{1,7})\/(\d{1,7})$/.exec(text) ?? [];
  if (number === undefined || count === undefined) {
    throw inputError('ERR_SHARD', 'is not i/n', { where: source, remedy: 'Say which part of how many: --shard 2/4.' });
  }
  const [i, n] = [Number(number), Number(count)];
  if (i >= 1 && i <= n && n <= MAX_PARTS) return { index: i - 1, count: n, source };
  throw inputError('ERR_SHARD', `there is no part ${i} of ${n}`, {
    where: source,
    remedy: 'Parts are counted from 1: of four, --shard 1/4 to --shard 4/4.',
  });
}

/**
 * The part that a task of a Slurm array or a pod of a Kubernetes Indexed Job is; undefined for other processes. Of Slurm
 * `SLURM_ARRAY_TASK_ID`, `_COUNT`, `_MIN` and `_STEP` are read; of Kubernetes `JOB_COMPLETION_INDEX`, and `JOB_COMPLETIONS`,
 * which the pod's template must set to the job's `completions`, for Kubernetes does not tell.
 *
 * @throws PotstillError `ERR_SHARD` when the part cannot be told
 */
export function partOfEnvironment(environment: Environment): Part | undefined {
  return partOfSlurm(environment) ?? partOfKubernetes(environment);
}

const INSTEAD = 'or say it: --shard i/n (--shard 1/1: all of it).';

function partOfSlurm(environment: Environment): Part | undefined {
  const id = environment['SLURM_ARRAY_TASK_ID'];
  if (id === undefined || id === '') return undefined;
  const where = `SLURM_ARRAY_TASK_ID=${id}`;
  const read = (name: string, otherwise: number): number =>
    wholeNumber(environment, `SLURM_ARRAY_TASK_${name}`, otherwise);
  const [task, count] = [read('ID', Number.NaN), read('COUNT', Number.NaN)];
  const index = (task - read('MIN', 0)) / read('STEP', 1);
  if (Number.isInteger(index) && index >= 0 && index < count && count <= MAX_PARTS) {
    return { index, count, source: `${where} of ${count}` };
  }
  throw inputError('ERR_SHARD', `which part of ${Number.isNaN(count) ? 'how many' : count} it is cannot be told`, {
    where,
    remedy: `Number the array without gaps (--array=0-3; single tasks of it can be requeued), ${INSTEAD}`,
  });
}

function partOfKubernetes(environment: Environment): Part | undefined {
  const text = environment['JOB_COMPLETION_INDEX'];
  if (text === undefined || text === '') return undefined;
  const where = `JOB_COMPLETION_INDEX=${text}`;
  const index = wholeNumber(environment, 'JOB_COMPLETION_INDEX', Number.NaN);
  const count = wholeNumber(environment, 'JOB_COMPLETIONS', Number.NaN);
  if (index < count && count <= MAX_PARTS) return { index, count, source: `${where} of ${count}` };
  const what = Number.isNaN(count) ? 'JOB_COMPLETIONS is not set' : `JOB_COMPLETIONS=${count} has no such part`;
  throw inputError('ERR_SHARD', what, {
    where,
    remedy: `Set JOB_COMPLETIONS in the pod's template to the job's completions, ${INSTEAD}`,
  });
}

/** NaN for what is no whole number. */
function wholeNumber(environment: Environment, name: string, otherwise: number): number {
  const text = environment[name];
  if (text === undefined || text === '') return otherwise;
  return /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
}

/** Whether a shard is a part's own. Neighbours go to different parts, for all records of a size lie together. */
export function isOwn({ index, count }: Part, shard: number): boolean {
  return shard % count === index;
}

/**
 * The shards of the other parts in the order in which a part that has done its own looks whether they are there: from the
 * last ones on, which their owners come to last, and every part from another one.
 */
export function toHelpWith<T extends { readonly index: number }>(part: Part, shards: readonly T[]): T[] {
  const others = shards.filter(({ index }) => !isOwn(part, index)).reverse();
  const start = Math.floor((others.length * part.index) / part.count);
  return [...others.slice(start), ...others.slice(0, start)];
}
