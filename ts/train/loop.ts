import type { Progress } from '../progress.ts';
import { describeValidation } from './describe-validation.ts';
import { MetricsLog } from './metrics.ts';
import type { RunRequests } from './requests.ts';
import type { StepFigures } from './trainer.ts';
import type { ValidationFigures } from './validation.ts';

/** What happens around the updates; all of it may be left to the loop's caller. */
export interface LoopOptions {
  /** Performs the update with this number, from 0. */
  readonly update: (number: number) => Promise<StepFigures>;
  /** Updates of the whole run. */
  readonly steps: number;
  /** Finished updates at the start: 0, or those of the checkpoint. */
  readonly from: number;
  /** Samples in one update: batch × accumulation. */
  readonly samplesPerStep: number;
  /** Seconds that earlier parts of the run took. */
  readonly secondsBefore: number;
  readonly metricsPath: string;
  readonly checkpointEvery: number;
  /** Writes a checkpoint of the state after `step` updates. */
  readonly checkpoint: (step: number, seconds: number) => Promise<void>;
  readonly validation:
    | { readonly every: number; readonly measure: (step: number) => Promise<ValidationFigures> }
    | undefined;
  readonly sampling: { readonly every: number; readonly draw: (step: number) => Promise<void> } | undefined;
  /** Asked after every update. */
  readonly requests?: RunRequests | undefined;
  /** Writes the student as it is after `step` updates, because somebody asks for it. */
  readonly saveNow?: ((step: number) => Promise<void>) | undefined;
  /** Asked between updates; once aborted, a checkpoint is written and the loop ends. */
  readonly signal: AbortSignal;
  readonly progress: Progress;
}

/** Where a loop ended. */
export interface LoopResult {
  /** Finished updates. */
  readonly step: number;
  readonly interrupted: boolean;
  /** Loss of the last update; undefined when there was none to do. */
  readonly loss: number | undefined;
  /** Seconds of all updates so far, those of earlier parts included. */
  readonly seconds: number;
  readonly validation: ValidationFigures | undefined;
  /** Means over this loop's updates of what methods log, by `<method>/<name>`; losses are not among them. */
  readonly figures: Readonly<Record<string, number>>;
}

/** Significant digits of a loss on a progress line. */
const SHOWN_DIGITS = 4;

/**
 * Updates until the end of the run or an interruption. The order within a step is fixed: update, validation, metrics,
 * samples, checkpoint; so the log never lacks a step that a checkpoint contains.
 */
export async function runLoop(options: LoopOptions): Promise<LoopResult> {
  const { steps, from, progress, signal, validation, sampling } = options;
  const log = await MetricsLog.open(options.metricsPath, from);
  using task = progress.start('training', { total: steps - from, unit: 'steps' });
  let step = from;
  let saved = from;
  let seconds = options.secondsBefore;
  let loss: number | undefined;
  let lastValidation: ValidationFigures | undefined;
  const meansOf = new Map<string, { sum: number; count: number }>();
  const isDue = (every: number): boolean => step % every === 0 || step === steps;
  const save = async (): Promise<void> => {
    await log.sync();
    await options.checkpoint(step, seconds);
    saved = step;
  };
  try {
    while (step < steps && !signal.aborted) {
      const start = performance.now();
      const { also, ...figures } = await options.update(step);
      const secondsPerStep = (performance.now() - start) / 1000;
      step += 1;
      seconds += secondsPerStep;
      loss = figures.loss;
      for (const [name, value] of Object.entries(also)) {
        if (name.startsWith('loss/')) continue;
        const { sum, count } = meansOf.get(name) ?? { sum: 0, count: 0 };
        meansOf.set(name, { sum: sum + value, count: count + 1 });
      }
      const validated =
        validation !== undefined && isDue(validation.every) ? await validation.measure(step) : undefined;
      if (validated !== undefined) progress.log(`step ${step}: ${describeValidation(validated)}`);
      lastValidation = validated ?? lastValidation;
      const samples = step * options.samplesPerStep;
      log.append({ step, ...figures, secondsPerStep, samples, ...also, ...asMetrics(validated) });
      task.set(step - from);
      task.note(`loss ${loss.toPrecision(SHOWN_DIGITS)}`);
      if (sampling !== undefined && isDue(sampling.every)) await sampling.draw(step);
      if (isDue(options.checkpointEvery)) await save();
      const asked = options.requests?.take();
      if (asked?.sample === true) {
        if (sampling === undefined) progress.log('The recipe says nothing of what to draw: add "sampling".');
        else if (!isDue(sampling.every)) await sampling.draw(step);
      }
      if (asked?.save === true) {
        if (saved !== step) await save();
        await options.saveNow?.(step);
      }
    }
    if (saved !== step) await save();
  } finally {
    await log.close();
  }
  const figures = Object.fromEntries([...meansOf].map(([name, { sum, count }]) => [name, sum / count]));
  return { step, interrupted: step < steps, loss, seconds, validation: lastValidation, figures };
}

/** `validation/loss`, `validation/shuffledCaptions`, and of each held-out data entry `validation/loss/<folder>` and so on. */
function asMetrics(figures: ValidationFigures | undefined): Record<`validation/${string}`, number> {
  if (figures === undefined) return {};
  const { sets = {}, ...all } = figures;
  const entries = Object.entries(all).map(([name, value]) => [`validation/${name}`, value]);
  const ofSets = Object.entries(sets).flatMap(([set, those]) =>
    Object.entries(those).map(([name, value]) => [`validation/${name}/${set}`, value]),
  );
  return Object.fromEntries([...entries, ...ofSets]);
}
