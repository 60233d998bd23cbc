import type { BatchRow } from '../data/batches.ts';
import { type HeldOutOptions, heldOutRows, withShuffledCaptions } from '../data/held-out.ts';
import { evaluate } from '../methods/loss.ts';
import { stepRng } from '../methods/rng.ts';
import { scope } from '../native/index.ts';
import { AskedRole } from './roles.ts';
import type { TrainerParts } from './trainer.ts';

/** Losses on held-out samples, at always the same noise and timesteps. */
export interface ValidationFigures {
  /** Mean loss with each sample's own caption. */
  readonly loss: number;
  /**
   * The same with every caption replaced by another sample's: above `loss` as far as the model heeds its captions.
   * Missing when all samples are one.
   */
  readonly shuffledCaptions?: number;
}

/** Measures a student on held-out samples as its method would train on them. */
export class Validation {
  readonly #parts: TrainerParts;
  readonly #rows: readonly BatchRow[];
  readonly #batch: number;

  /** @param batch rows per forward */
  constructor(parts: TrainerParts, heldOut: HeldOutOptions, batch: number) {
    this.#parts = parts;
    this.#rows = heldOutRows(heldOut);
    this.#batch = batch;
  }

  /** Rows of one measurement. */
  get size(): number {
    return this.#rows.length;
  }

  /** Measures the weights that the result would be taken from: the moving average where there is one. */
  async measure(step: number): Promise<ValidationFigures> {
    const { ema } = this.#parts;
    ema?.swap();
    try {
      const loss = await this.#mean(this.#rows, step);
      const several = new Set(this.#rows.map(({ sample }) => sample)).size > 1;
      return several ? { loss, shuffledCaptions: await this.#mean(withShuffledCaptions(this.#rows), step) } : { loss };
    } finally {
      ema?.swap();
    }
  }

  async #mean(rows: readonly BatchRow[], step: number): Promise<number> {
    let sum = 0;
    for (let from = 0; from < rows.length; from += this.#batch) {
      sum += await this.#sum(rows.slice(from, from + this.#batch), step, from);
    }
    return sum / rows.length;
  }

  /** Sum of the losses of one batch's rows. */
  #sum(rows: readonly BatchRow[], step: number, from: number): Promise<number> {
    const { student, method, methodOptions: options, methodState, source, seed, loss } = this.#parts;
    return scope(async () => {
      const batch = source.load(rows);
      const roles = { student: new AskedRole(student) };
      // A copy of the state: looking must not change the run. The generator depends on the rows only, so that a drawn
      // guidance is the same every time.
      const context = { options, state: { ...methodState } };
      const terms = method
        .phases(step, options)
        .flatMap((phase) => method.step(phase, batch, roles, stepRng(seed, from), context));
      const values = await evaluate(terms, batch, loss).perSample.toArray();
      return values.reduce((total, value) => total + value, 0);
    });
  }
}
