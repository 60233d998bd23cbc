/** A terminal's input, as far as keys are read from it. */
export interface KeyInput {
  readonly isTTY?: boolean | undefined;
  setRawMode?(raw: boolean): unknown;
  setEncoding(encoding: 'utf8'): unknown;
  on(event: 'data', listener: (text: string) => void): unknown;
  off(event: 'data', listener: (text: string) => void): unknown;
  resume(): unknown;
  pause(): unknown;
}

/** What a shell does with a process and its terminal. */
export interface JobControl {
  /** Sends the process what the terminal no longer does. */
  raise(signal: 'SIGINT' | 'SIGTSTP'): void;
  /** Whether the terminal is this process's; who takes another's is stopped. */
  isInForeground(): boolean;
  /** Calls a listener whenever the process goes on after it was stopped; returns what ends that. */
  onContinued(listener: () => void): () => void;
}

/** What a terminal sends for Ctrl-C and Ctrl-Z once its keys are read one by one. */
const CTRL_C = '\u0003';
const CTRL_Z = '\u001a';

/**
 * Reads keys from a terminal while a command works in its foreground; from anything else (a pipe, a batch job, a terminal
 * that another command has) nothing. Ctrl-C and Ctrl-Z keep their meaning.
 *
 * @param onKey called with each key as its character
 * @returns what gives the terminal back
 */
export function listenToKeys(input: KeyInput, onKey: (key: string) => void, job: JobControl): () => void {
  if (input.isTTY !== true || input.setRawMode === undefined) return () => {};
  let isListening = false;
  const onData = (text: string): void => {
    for (const key of text) {
      if (key === CTRL_C) job.raise('SIGINT');
      else if (key === CTRL_Z) suspend();
      else onKey(key);
    }
  };
  const take = (): void => {
    if (isListening || !job.isInForeground()) return;
    isListening = true;
    input.setRawMode?.(true);
    input.setEncoding('utf8');
    input.on('data', onData);
    input.resume();
  };
  const give = (): void => {
    if (!isListening) return;
    isListening = false;
    input.off('data', onData);
    if (job.isInForeground()) input.setRawMode?.(false);
    input.pause();
  };
  const suspend = (): void => {
    give();
    job.raise('SIGTSTP');
  };
  take();
  const end = job.onContinued(() => {
    // The shell has changed the terminal meanwhile: what was taken is taken anew.
    give();
    take();
  });
  return () => {
    end();
    give();
  };
}
