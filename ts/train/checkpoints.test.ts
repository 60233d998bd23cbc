import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type CheckpointState,
  listCheckpoints,
  pruneCheckpoints,
  readCheckpointState,
  writeCheckpoint,
} from './checkpoints.ts';

const state = (step: number): CheckpointState => ({
  version: 1,
  step,
  kernelClass: 'avx2',
  cache: { text: 'ab' },
  seconds: 1.5,
  method: { ratio: 2 },
});
const tensors = (folder: string): Promise<void> => writeFile(join(folder, 'student.safetensors'), 'tensors');

describe('checkpoints', () => {
  let folder = '';
  beforeEach(async () => {
    folder = join(await mkdtemp(join(tmpdir(), 'potstill-checkpoints-')), 'checkpoints');
  });
  afterEach(() => rm(join(folder, '..'), { recursive: true }));

  it('are none before the first is written', async () => {
    expect(await listCheckpoints(folder)).toEqual([]);
  });

  it('come back oldest first, with their state', async () => {
    for (const step of [100, 20, 1_234_567]) await writeCheckpoint(folder, state(step), tensors);
    const found = await listCheckpoints(folder);
    expect(found.map(({ step }) => step)).toEqual([20, 100, 1_234_567]);
    const middle = { step: 100, folder: join(folder, 'step-000100') };
    expect(found[1]).toEqual(middle);
    expect(await readCheckpointState(middle)).toEqual(state(100));
    expect(await readdir(middle.folder)).toEqual(['state.json', 'student.safetensors']);
  });

  it('do not count while half-written, and a failed write leaves the last one as it was', async () => {
    await writeCheckpoint(folder, state(1), tensors);
    await expect(writeCheckpoint(folder, state(2), () => Promise.reject(new Error('disk full')))).rejects.toThrow(
      'disk full',
    );
    expect((await listCheckpoints(folder)).map(({ step }) => step)).toEqual([1]);
  });

  it('keep the newest ones', async () => {
    for (const step of [1, 2, 3]) await writeCheckpoint(folder, state(step), tensors);
    await mkdir(join(folder, '.writing-step-000004'));
    await pruneCheckpoints(folder, 2);
    expect(await readdir(folder)).toEqual(['step-000002', 'step-000003']);
  });

  it.each(['{"version":2}', '{"version":1', ''])('are refused when the state is not ours: %j', async (text) => {
    const checkpoint = await writeCheckpoint(folder, state(1), tensors);
    await writeFile(join(checkpoint.folder, 'state.json'), text);
    await expect(readCheckpointState(checkpoint)).rejects.toMatchObject({
      kind: 'input',
      where: join(checkpoint.folder, 'state.json'),
    });
  });
});
