import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentProgress } from '../progress.ts';
import { type LoopOptions, runLoop } from './loop.ts';
import { readMetrics } from './metrics.ts';
import { RunRequests } from './requests.ts';

describe('runLoop', () => {
  let folder = '';
  let events: string[] = [];
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'potstill-loop-'));
    events = [];
  });
  afterEach(() => rm(folder, { recursive: true }));

  const options = (changes: Partial<LoopOptions> = {}): LoopOptions => ({
    update: (number) => {
      events.push(`update ${number}`);
      return Promise.resolve({ loss: 1 / (number + 1), lr: 0.1, gradNorm: 2, also: { 'loss/a': 3 } });
    },
    steps: 5,
    from: 0,
    samplesPerStep: 8,
    secondsBefore: 0,
    metricsPath: join(folder, 'metrics.jsonl'),
    checkpointEvery: 2,
    checkpoint: (step) => {
      events.push(`checkpoint ${step}`);
      return Promise.resolve();
    },
    validation: undefined,
    sampling: undefined,
    signal: new AbortController().signal,
    progress: silentProgress,
    ...changes,
  });

  it('updates to the end, checkpoints when due and at the end', async () => {
    const result = await runLoop(options());
    expect(events).toEqual([
      'update 0',
      'update 1',
      'checkpoint 2',
      'update 2',
      'update 3',
      'checkpoint 4',
      'update 4',
      'checkpoint 5',
    ]);
    expect(result).toMatchObject({ step: 5, interrupted: false, loss: 0.2 });
  });

  it('logs every field of every step', async () => {
    await runLoop(options({ steps: 1 }));
    const [line] = await readMetrics(join(folder, 'metrics.jsonl'));
    expect(line).toEqual({
      step: 1,
      loss: 1,
      lr: 0.1,
      gradNorm: 2,
      secondsPerStep: expect.any(Number),
      samples: 8,
      'loss/a': 3,
    });
  });

  it('goes on after the steps of a checkpoint', async () => {
    await runLoop(options({ steps: 3 }));
    events = [];
    const result = await runLoop(options({ from: 2, secondsBefore: 100 }));
    expect(events[0]).toBe('update 2');
    expect(result.seconds).toBeGreaterThan(100);
    expect((await readMetrics(join(folder, 'metrics.jsonl'))).map(({ step }) => step)).toEqual([1, 2, 3, 4, 5]);
  });

  it('finishes the step that it is in when interrupted, and writes a checkpoint', async () => {
    const controller = new AbortController();
    const { update } = options();
    const result = await runLoop(
      options({
        signal: controller.signal,
        update: (number) => {
          if (number === 2) controller.abort();
          return update(number);
        },
      }),
    );
    expect(events.slice(-2)).toEqual(['update 2', 'checkpoint 3']);
    expect(result).toMatchObject({ step: 3, interrupted: true });
  });

  it('writes no checkpoint of an update that failed', async () => {
    const failing = options({ update: () => Promise.reject(new Error('not finite')) });
    await expect(runLoop(failing)).rejects.toThrow('not finite');
    expect(events).toEqual([]);
  });

  it('does nothing in a finished run', async () => {
    expect(await runLoop(options({ from: 5 }))).toMatchObject({ step: 5, interrupted: false, loss: undefined });
    expect(events).toEqual([]);
  });

  it('validates and samples when due and at the end', async () => {
    const sampled: number[] = [];
    const result = await runLoop(
      options({
        validation: { every: 2, measure: (step) => Promise.resolve({ loss: step, shuffledCaptions: 2 * step }) },
        sampling: { every: 3, draw: (step) => Promise.resolve(sampled.push(step)).then(() => {}) },
      }),
    );
    expect(sampled).toEqual([3, 5]);
    expect(result.validation).toEqual({ loss: 5, shuffledCaptions: 10 });
    const lines = await readMetrics(join(folder, 'metrics.jsonl'));
    expect(lines.map((line) => line['validation/loss'])).toEqual([undefined, 2, undefined, 4, 5]);
  });

  it('samples and saves out of turn when asked, once, and says when there is nothing to draw', async () => {
    const requests = new RunRequests();
    const lines: string[] = [];
    const asking = (number: number): ReturnType<LoopOptions['update']> => {
      if (number === 2) {
        requests.sample();
        requests.save();
      }
      return options().update(number);
    };
    const sampling = { every: 5, draw: async (step: number) => void events.push(`samples ${step}`) };
    const saveNow = async (step: number): Promise<void> => void events.push(`student ${step}`);
    await runLoop(options({ update: asking, requests, sampling, saveNow, checkpointEvery: 5 }));
    expect(events).toEqual([
      'update 0',
      'update 1',
      'update 2',
      'samples 3',
      'checkpoint 3',
      'student 3',
      'update 3',
      'update 4',
      'samples 5',
      'checkpoint 5',
    ]);
    requests.sample();
    const progress = { ...silentProgress, log: (line: string) => lines.push(line) };
    await runLoop(options({ steps: 1, requests, progress }));
    expect(lines.join()).toContain('sampling');
  });
});
