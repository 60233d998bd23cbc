import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ResolvedRecipe, resolveRecipe } from '../recipe/index.ts';
import { writeCheckpoint } from './checkpoints.ts';
import { openRunFolder } from './run-folder.ts';

function recipe(changes: readonly string[] = []): ResolvedRecipe {
  const value = {
    version: 1,
    name: 'test',
    student: { model: 'student' },
    data: [{ images: 'images' }],
    method: { id: 'denoise' },
    training: { steps: 10 },
  };
  const document = { file: 'recipe.json', value, place: () => ({ line: 1, column: 1 }), has: () => true };
  return resolveRecipe(document, { set: changes }).recipe;
}

describe('openRunFolder', () => {
  let path = '';
  beforeEach(async () => {
    path = join(await mkdtemp(join(tmpdir(), 'potstill-run-')), 'run');
  });
  afterEach(() => rm(join(path, '..'), { recursive: true }));

  const open = async (given: ResolvedRecipe, resume = false): Promise<number | undefined> => {
    const run = await openRunFolder(path, given, resume);
    const release = await run.claim();
    await release();
    return run.resumeFrom?.step;
  };
  const checkpoint = (step: number): Promise<unknown> =>
    writeCheckpoint(
      join(path, 'checkpoints'),
      { version: 1, step, kernelClass: 'sse', cache: {}, seconds: 0, method: {} },
      () => Promise.resolve(),
    );

  it('writes nothing before it is claimed', async () => {
    await openRunFolder(path, recipe(), false);
    await expect(readFile(join(path, 'recipe.json'))).rejects.toThrow('ENOENT');
  });

  it('makes a fresh run with its recipe', async () => {
    expect(await open(recipe())).toBeUndefined();
    expect(JSON.parse(await readFile(join(path, 'recipe.json'), 'utf8'))).toEqual(recipe());
  });

  it('goes on from the newest checkpoint, only when told to', async () => {
    await open(recipe());
    await checkpoint(3);
    await checkpoint(6);
    await expect(open(recipe())).rejects.toMatchObject({
      code: 'ERR_RUN_EXISTS',
      remedy: expect.stringContaining('--resume'),
    });
    expect(await open(recipe(), true)).toBe(6);
  });

  it('starts again where a run ended before its first checkpoint', async () => {
    await open(recipe());
    expect(await open(recipe())).toBeUndefined();
  });

  it('refuses another recipe, naming the keys with both values', async () => {
    await open(recipe());
    await expect(open(recipe(['seed=7', 'training.batch=2']), true)).rejects.toMatchObject({
      code: 'ERR_RUN_OTHER_RECIPE',
      kind: 'input',
      what: expect.stringMatching(/seed \(42, now 7\).*training\.batch \(1, now 2\)/),
    });
  });

  it('lets go through what changes no bit', async () => {
    await open(recipe());
    await checkpoint(3);
    expect(await open(recipe(['training.checkpoint.every=5', 'name=other', `output=${path}`]), true)).toBe(3);
  });

  it('goes on with another device', async () => {
    await open(recipe(['device=cpu']));
    await checkpoint(3);
    expect(await open(recipe(['device=cuda']), true)).toBe(3);
  });

  it('goes by what is in models and folders, not by where they lie, and lets an earlier version go on', async () => {
    const teacher = (model: string): string => `teachers=[{"id":"a","model":"${model}"}]`;
    await open(recipe([teacher('here')]));
    await checkpoint(3);
    const written = join(path, 'recipe.json');
    const text = await readFile(written, 'utf8');
    const before = JSON.parse(text) as ResolvedRecipe;
    // As if written before data had a use.
    const data = before.data.map(({ use: _, ...rest }) => rest);
    await writeFile(written, JSON.stringify({ ...before, data }));
    const moved = ['student.model=there', 'data[0].images=elsewhere', teacher('away')];
    expect(await open(recipe(moved), true)).toBe(3);
    await expect(open(recipe([...moved, 'data[0].flip=true']), true)).rejects.toMatchObject({
      what: expect.stringContaining('data[0].flip (false, now true)'),
    });
  });

  it('lets a run grow only while its schedule is constant', async () => {
    await open(recipe());
    expect(await open(recipe(['training.steps=20']), true)).toBeUndefined();
    await rm(path, { recursive: true });
    const cosine = ['training.schedule.id=cosine'];
    await open(recipe(cosine));
    await expect(open(recipe([...cosine, 'training.steps=20']), true)).rejects.toMatchObject({
      code: 'ERR_RUN_OTHER_RECIPE',
    });
  });

  it('writes nothing into a folder of something else', async () => {
    await mkdir(path);
    await writeFile(join(path, 'thesis.tex'), '');
    await expect(open(recipe())).rejects.toMatchObject({ code: 'ERR_RUN_FOREIGN_FOLDER' });
  });

  it('keeps a second process out, and takes over from one that died', async () => {
    const run = await openRunFolder(path, recipe(), false);
    const release = await run.claim();
    await expect(open(recipe())).rejects.toMatchObject({ code: 'ERR_RUN_BUSY' });
    await release();
    // No process has this number: Linux ends at 2²², others far below.
    await mkdir(join(path, '.lock'));
    await writeFile(join(path, '.lock', 'owner'), `${hostname()} 2147483646 1\n`);
    expect(await open(recipe())).toBeUndefined();
  });
});
