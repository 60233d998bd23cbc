import { describe, expect, it } from 'vitest';
import { isOwn, parsePart, partOfEnvironment, toHelpWith } from './part.ts';

const shards = Array.from({ length: 11 }, (_, index) => ({ index }));

describe('parsePart', () => {
  it('counts from 1', () => {
    expect(parsePart('1/4')).toEqual({ index: 0, count: 4, source: '--shard 1/4' });
    expect(parsePart('4/4')).toMatchObject({ index: 3, count: 4 });
  });

  it.each(['0/4', '5/4', '1/0', '4', '1/4/4', '-1/4', '1.5/4', 'a/b', '', '1/9999999', ' 1/4'])(
    'refuses %j',
    (text) => {
      expect(() => parsePart(text)).toThrow(expect.objectContaining({ code: 'ERR_SHARD', where: `--shard ${text}` }));
    },
  );
});

describe('partOfEnvironment', () => {
  const slurm = (id: string, rest: Readonly<Record<string, string>>): Record<string, string> => ({
    SLURM_ARRAY_TASK_ID: id,
    ...Object.fromEntries(Object.entries(rest).map(([name, value]) => [`SLURM_ARRAY_TASK_${name}`, value])),
  });

  it('finds nothing outside of jobs', () => {
    expect(partOfEnvironment({ SLURM_JOB_ID: '7', PATH: '/bin' })).toBeUndefined();
    expect(partOfEnvironment({ JOB_COMPLETION_INDEX: '' })).toBeUndefined();
  });

  it.each([
    ['from 0', slurm('2', { COUNT: '4', MIN: '0', MAX: '3', STEP: '1' }), 2, 4],
    ['from 1', slurm('1', { COUNT: '4', MIN: '1', MAX: '4' }), 0, 4],
    ['with a step', slurm('8', { COUNT: '3', MIN: '4', MAX: '12', STEP: '4' }), 1, 3],
    ['of one task, as when it is submitted again alone', slurm('3', { COUNT: '1', MIN: '3', MAX: '3' }), 0, 1],
    ['of Kubernetes', { JOB_COMPLETION_INDEX: '3', JOB_COMPLETIONS: '4' }, 3, 4],
  ])('knows an array %s', (_, environment, index, count) => {
    expect(partOfEnvironment(environment)).toMatchObject({ index, count });
  });

  it.each([
    ['an array with gaps', slurm('7', { COUNT: '3', MIN: '1', MAX: '7', STEP: '1' }), 'which part of 3 it is'],
    ['an array of unknown length', slurm('1', { MIN: '0' }), 'which part of how many'],
    ['a step that it does not stand on', slurm('5', { COUNT: '3', MIN: '4', STEP: '4' }), 'which part of 3'],
    ['a task that is no number', slurm('x', { COUNT: '3', MIN: '0' }), 'which part of 3'],
    ['a pod without a count', { JOB_COMPLETION_INDEX: '1' }, 'JOB_COMPLETIONS is not set'],
    ['a pod beyond the count', { JOB_COMPLETION_INDEX: '4', JOB_COMPLETIONS: '4' }, 'has no such part'],
  ])('refuses %s and says how to tell', (_, environment, what) => {
    expect(() => partOfEnvironment(environment)).toThrow(
      expect.objectContaining({
        code: 'ERR_SHARD',
        what: expect.stringContaining(what),
        remedy: expect.stringContaining('--shard i/n'),
      }),
    );
  });
});

describe('shards of parts', () => {
  it.each([1, 2, 3, 4, 11, 20])('are one of %i parts each', (count) => {
    const owners = shards.map(({ index }) =>
      Array.from({ length: count }, (_, part) => part).filter((part) =>
        isOwn({ index: part, count, source: '' }, index),
      ),
    );
    expect(owners.every((own) => own.length === 1)).toBe(true);
    const load = (part: number): number => owners.filter(([owner]) => owner === part).length;
    const loads = Array.from({ length: count }, (_, part) => load(part));
    expect(Math.max(...loads) - Math.min(...loads)).toBeLessThanOrEqual(1);
  });

  it('of others are helped with from the end, by every part from another', () => {
    const orders = [0, 1, 2].map((index) =>
      toHelpWith({ index, count: 3, source: '' }, shards).map((shard) => shard.index),
    );
    expect(orders).toEqual([
      [10, 8, 7, 5, 4, 2, 1],
      [6, 5, 3, 2, 0, 9, 8],
      [3, 1, 0, 10, 9, 7, 6, 4],
    ]);
  });
});
