import { interruptedError } from '../../ts/errors.ts';
import { type Progress, silentProgress } from '../../ts/progress.ts';

/** A signal that is aborted when a run reports that it has done `step` steps, and the progress that it reports to. */
export function interruptAt(step: number): { readonly signal: AbortSignal; readonly progress: Progress } {
  const controller = new AbortController();
  const task = {
    ...silentProgress.start(''),
    set: (done: number) => {
      if (done === step) controller.abort(interruptedError());
    },
  };
  return {
    signal: controller.signal,
    progress: { start: (label) => (label === 'training' ? task : silentProgress.start('')), log: () => {} },
  };
}
