import { EventEmitter } from 'node:events';
import { describe, expect, it } from 'vitest';
import { isInForeground } from './foreground.ts';
import { type JobControl, type KeyInput, listenToKeys } from './keys.ts';

class Terminal extends EventEmitter implements KeyInput {
  readonly isTTY: boolean;
  readonly states: string[] = [];

  constructor(isTTY: boolean) {
    super();
    this.isTTY = isTTY;
  }

  setRawMode(raw: boolean): void {
    this.states.push(raw ? 'raw' : 'cooked');
  }
  setEncoding(): void {}
  resume(): void {
    this.states.push('resumed');
  }
  pause(): void {
    this.states.push('paused');
  }
}

/** A shell's job that hears what is raised. */
class Job extends EventEmitter implements JobControl {
  foreground = true;
  readonly raised: string[] = [];

  raise(signal: string): void {
    this.raised.push(signal);
  }
  isInForeground(): boolean {
    return this.foreground;
  }
  onContinued(listener: () => void): () => void {
    this.on('continued', listener);
    return () => this.off('continued', listener);
  }
}

describe('listenToKeys', () => {
  it('hands on keys and signals, and gives the terminal back', () => {
    const [terminal, job, heard] = [new Terminal(true), new Job(), [] as string[]];
    const stop = listenToKeys(terminal, (key) => heard.push(key), job);
    terminal.emit('data', 'sc');
    terminal.emit('data', '\u0003');
    expect(heard).toEqual(['s', 'c']);
    expect(job.raised).toEqual(['SIGINT']);
    stop();
    terminal.emit('data', 's');
    expect(heard).toHaveLength(2);
    expect(terminal.states).toEqual(['raw', 'resumed', 'cooked', 'paused']);
    expect(job.listenerCount('continued')).toBe(0);
  });

  it('gives the terminal back for Ctrl-Z, and takes it again when the command is called to the foreground', () => {
    const [terminal, job, heard] = [new Terminal(true), new Job(), [] as string[]];
    const stop = listenToKeys(terminal, (key) => heard.push(key), job);
    terminal.emit('data', '\u001a');
    expect(job.raised).toEqual(['SIGTSTP']);
    expect(terminal.states.splice(0)).toEqual(['raw', 'resumed', 'cooked', 'paused']);
    job.foreground = false; // bg
    job.emit('continued');
    expect(terminal.states).toEqual([]);
    job.foreground = true; // fg
    job.emit('continued');
    expect(terminal.states.splice(0)).toEqual(['raw', 'resumed']);
    terminal.emit('data', 's');
    expect(heard).toEqual(['s']);
    // Stopped from outside: what the shell did to the terminal is done again.
    job.emit('continued');
    expect(terminal.states).toEqual(['cooked', 'paused', 'raw', 'resumed']);
    stop();
  });

  it('touches no terminal from the background, where that would stop it', () => {
    const [terminal, job] = [new Terminal(true), new Job()];
    job.foreground = false;
    listenToKeys(terminal, () => {}, job)();
    expect(terminal.states).toEqual([]);
    job.foreground = true;
    const stop = listenToKeys(terminal, () => {}, job);
    job.foreground = false;
    terminal.states.length = 0;
    stop();
    expect(terminal.states).toEqual(['paused']);
  });

  it('leaves what is no terminal alone', () => {
    const pipe = new Terminal(false);
    listenToKeys(
      pipe,
      () => {
        throw new Error('nothing is read');
      },
      new Job(),
    )();
    pipe.emit('data', 's');
    expect(pipe.states).toEqual([]);
  });
});

describe('isInForeground', () => {
  it('compares the groups of process and terminal', () => {
    const stat = (owner: number) => () => `77 (a b) c) S 1 42 42 34816 ${owner} 4194304 125 0`;
    expect(isInForeground(stat(42))).toBe(true);
    expect(isInForeground(stat(43))).toBe(false);
    const unknown = (): string => {
      throw new Error('no such file');
    };
    expect(isInForeground(unknown)).toBe(true);
  });
});
