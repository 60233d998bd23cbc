import { interruptedError } from '../errors.ts';

/** A signal that Ctrl-C aborts. */
export interface Interrupts {
  readonly signal: AbortSignal;
  /** Gives Ctrl-C back to Node. */
  release(): void;
}

/**
 * The first Ctrl-C (or SIGTERM, which Slurm and Kubernetes send) aborts the signal, so that work ends at the next safe
 * place with a checkpoint written; a second one ends the process at once.
 */
export function catchInterrupts(): Interrupts {
  const controller = new AbortController();
  const onSignal = (): void => {
    if (controller.signal.aborted) process.exit(130);
    controller.abort(interruptedError());
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  return {
    signal: controller.signal,
    release: () => process.off('SIGINT', onSignal).off('SIGTERM', onSignal),
  };
}
