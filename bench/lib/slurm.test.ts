import { describe, expect, it } from 'vitest';
import { parseJobs } from './slurm.ts';

describe('jobs as scontrol prints them', () => {
  it('are tasks of an array, those that wait together', () => {
    const text = [
      'JobId=4 ArrayJobId=3 ArrayTaskId=1 JobName=build JobState=RUNNING Restarts=1 RunTime=00:01:05 Command=a b',
      'JobId=3 ArrayJobId=3 ArrayTaskId=2-3 JobName=build JobState=PENDING Restarts=0 RunTime=00:00:00',
      '',
    ].join('\n');
    expect(parseJobs(text)).toEqual([
      { id: '3_1', task: 1, state: 'RUNNING', restarts: 1, seconds: 65 },
      { id: '3', task: undefined, state: 'PENDING', restarts: 0, seconds: 0 },
    ]);
  });

  it('or jobs of their own', () => {
    expect(parseJobs('JobId=7 JobName=seal JobState=COMPLETED Restarts=0 RunTime=01:00:02\n')).toEqual([
      { id: '7', task: undefined, state: 'COMPLETED', restarts: 0, seconds: 3602 },
    ]);
  });
});
