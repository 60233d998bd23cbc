/** A piece of work that takes a while, being reported on. */
export interface ProgressTask {
  /** Adds to what is done, 1 by default. */
  advance(amount?: number): void;
  /** Sets what is done, in the task's unit, counted from the start of this task (work of earlier runs left out). */
  set(done: number): void;
  /** A short remark shown behind the numbers, such as the loss; replaces the previous one. */
  note(text: string): void;
  /** Ends the task; calling it again does nothing. */
  end(): void;
  /** Ends the task, so that `using task = progress.start(…)` reports the end on every way out. */
  [Symbol.dispose](): void;
}

export interface TaskOptions {
  /** How much there is to do; left out when nobody knows. Rate and time left are derived from it. */
  readonly total?: number | undefined;
  /** What is counted, in the plural: `images`, `steps`, `bytes` (shown as KB, MB, GB). */
  readonly unit?: string | undefined;
}

/** Where long work reports. Rooms below the command line take one as an option and know nothing of terminals. */
export interface Progress {
  start(label: string, options?: TaskOptions): ProgressTask;
  /** A line worth keeping in a log, such as the validation loss. */
  log(line: string): void;
}

const SILENT_TASK: ProgressTask = {
  advance() {},
  set() {},
  note() {},
  end() {},
  [Symbol.dispose]() {},
};

/** Reports to nobody. */
export const silentProgress: Progress = {
  start: () => SILENT_TASK,
  log() {},
};
