import type { BatchRow } from '../data/batches.ts';
import { bucketOf } from '../data/entries.ts';
import { type HeldOutOptions, heldOutRows, withShuffledCaptions } from '../data/held-out.ts';
import { evaluate } from '../methods/loss.ts';
import { stepRng } from '../methods/rng.ts';
import { scope } from '../native/index.ts';
import { AskedRole } from './roles.ts';
import { methodOfRows, rolesOf, type TrainerParts } from './trainer.ts';

/** Losses on held-out samples, at always the same noise and timesteps. */
export interface LossFigures {
  /** Mean loss with each sample's own caption; of those of the recipe's own method, where there are any. */
  readonly loss: number;
  /**
   * The same with every caption replaced by another sample's: above `loss` as far as the model heeds its captions.
   * Missing when all samples are one.
   */
  readonly shuffledCaptions?: number;
}

/** What a validation finds. */
export interface ValidationFigures extends LossFigures {
  /** The same for each held-out data entry alone, by the name of its folder, where there are several. */
  readonly sets?: Readonly<Record<string, LossFigures>>;
}

/** What a measurement needs of a run. */
export type MeasuredParts = Pick<
  TrainerParts,
  'student' | 'ema' | 'prior' | 'teachers' | 'methods' | 'source' | 'seed' | 'loss'
>;

/** What is measured. */
export interface ValidationOptions extends HeldOutOptions {
  /** Rows per forward. */
  readonly batch: number;
  /** The data entry of each sample, by name, where several are held out; their losses are told apart. */
  readonly setOf?: ((sample: number) => string) | undefined;
}

/** How a measurement is watched over. */
export interface MeasureOptions {
  /** Once aborted, no further batch is begun and its reason is thrown; the weights are as before. */
  readonly signal?: AbortSignal | undefined;
  /** Called after each batch with the number of its rows, {@link Validation.forwards} altogether. */
  readonly onRows?: ((rows: number) => void) | undefined;
}

/** Measures a student on held-out samples as its method would train on them. */
export class Validation {
  readonly #parts: MeasuredParts;
  readonly #rows: readonly BatchRow[];
  readonly #options: ValidationOptions;

  constructor(parts: MeasuredParts, options: ValidationOptions) {
    this.#parts = parts;
    this.#options = options;
    this.#rows = byBucket(heldOutRows(options), options);
  }

  /** Rows of one measurement. */
  get size(): number {
    return this.#rows.length;
  }

  /** Samples of one measurement. */
  get samples(): number {
    return new Set(this.#rows.map(({ sample }) => sample)).size;
  }

  /** Rows that one measurement computes: each with its own caption and, where there is another, with that. */
  get forwards(): number {
    return this.samples > 1 ? 2 * this.size : this.size;
  }

  /** Measures the weights that the result would be taken from: the moving average where there is one. */
  async measure(step: number, options: MeasureOptions = {}): Promise<ValidationFigures> {
    const { ema } = this.#parts;
    ema?.swap();
    try {
      const losses = await this.#losses(this.#rows, step, options);
      const shuffled =
        this.samples > 1 ? await this.#losses(withShuffledCaptions(this.#rows), step, options) : undefined;
      // Losses of several methods have no mean: those of the recipe's own, which comes first.
      const own = this.#rows.reduce((least, { part }) => Math.min(least, part), Number.POSITIVE_INFINITY);
      const figures = this.#figures(losses, shuffled, ({ part }) => part === own);
      const { setOf } = this.#options;
      if (setOf === undefined) return figures;
      const names = [...new Set(this.#rows.map(({ sample }) => setOf(sample)))].sort();
      const sets = names.map((name) => [name, this.#figures(losses, shuffled, (row) => setOf(row.sample) === name)]);
      return { ...figures, sets: Object.fromEntries(sets) };
    } finally {
      ema?.swap();
    }
  }

  /** Means over the rows that are asked for. */
  #figures(
    losses: readonly number[],
    shuffled: readonly number[] | undefined,
    isAsked: (row: BatchRow) => boolean,
  ): LossFigures {
    const mean = (values: readonly number[]): number => {
      const asked = values.filter((_, index) => this.#rows[index] !== undefined && isAsked(this.#rows[index]));
      return asked.reduce((sum, value) => sum + value, 0) / asked.length;
    };
    const loss = mean(losses);
    return shuffled === undefined ? { loss } : { loss, shuffledCaptions: mean(shuffled) };
  }

  /** The loss of every row. */
  async #losses(rows: readonly BatchRow[], step: number, { signal, onRows }: MeasureOptions): Promise<number[]> {
    const losses: number[] = [];
    while (losses.length < rows.length) {
      signal?.throwIfAborted();
      const from = losses.length;
      const bucket = this.#bucketOf(rows[from]);
      const rest = rows.slice(from, from + this.#options.batch);
      const other = rest.findIndex((row) => this.#bucketOf(row) !== bucket);
      losses.push(...(await this.#measure(other < 0 ? rest : rest.slice(0, other), step, from)));
      onRows?.(losses.length - from);
    }
    return losses;
  }

  #bucketOf(row: BatchRow | undefined): string | undefined {
    const sample = row === undefined ? undefined : this.#options.samples[row.sample];
    return sample === undefined ? undefined : bucketOf(sample);
  }

  /** The losses of one batch's rows. */
  #measure(rows: readonly BatchRow[], step: number, from: number): Promise<readonly number[]> {
    const { student, methods, source, seed, loss } = this.#parts;
    const { method, options, state } = methodOfRows(methods, rows);
    return scope(async () => {
      const batch = source.load(rows);
      const roles = rolesOf(new AskedRole(student), this.#parts);
      // A copy of the state: looking must not change the run. The generator depends on the rows only, so that a drawn
      // guidance is the same every time.
      const context = { options, state: { ...state } };
      const terms = method
        .phases(step, options)
        .flatMap((phase) => method.step(phase, batch, roles, stepRng(seed, from), context));
      return [...(await evaluate(terms, batch, loss).perSample.toArray())];
    });
  }
}

/** Rows in the order of their buckets: a batch is of one size and method. Those of one bucket keep their order. */
function byBucket(rows: readonly BatchRow[], { samples }: HeldOutOptions): BatchRow[] {
  const keys = samples.map(bucketOf);
  return [...new Set(keys)].sort().flatMap((key) => rows.filter(({ sample }) => keys[sample] === key));
}
