import { appendFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MetricsLog, readMetrics, type StepMetrics } from './metrics.ts';

const line = (step: number): StepMetrics => ({
  step,
  loss: 1 / step,
  lr: 1e-4,
  gradNorm: 1,
  secondsPerStep: 0.1,
  samples: step * 8,
  'loss/animals': 2,
});

describe('MetricsLog', () => {
  let folder = '';
  let path = '';
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'potstill-metrics-'));
    path = join(folder, 'metrics.jsonl');
  });
  afterEach(() => rm(folder, { recursive: true }));

  async function write(from: number, to: number, keep: number): Promise<void> {
    const log = await MetricsLog.open(path, keep);
    for (let step = from; step <= to; step += 1) log.append(line(step));
    await log.sync();
    await log.close();
  }

  it('appends one object per step and reads it back', async () => {
    await write(1, 3, 0);
    expect(await readMetrics(path)).toEqual([line(1), line(2), line(3)]);
  });

  it('is cut to the checkpoint when a run resumes, to the same bytes as without the interruption', async () => {
    await write(1, 6, 0);
    const whole = await readFile(path);
    await write(4, 6, 3);
    expect(await readFile(path)).toEqual(whole);
  });

  it('drops a line that a crash cut short', async () => {
    await write(1, 2, 0);
    await appendFile(path, '{"step":3,"lo');
    expect(await readMetrics(path)).toHaveLength(2);
    await write(3, 3, 5);
    expect(await readMetrics(path)).toEqual([line(1), line(2), line(3)]);
  });

  it('starts afresh at step 0', async () => {
    await write(1, 3, 0);
    await write(1, 1, 0);
    expect(await readMetrics(path)).toEqual([line(1)]);
  });
});
