import type { BatchPlan, BatchRow } from '../data/batches.ts';
import type { Method, Role, Roles, TrainedRoleName } from '../methods/define.ts';
import { type BatchLoss, evaluate, type LossSettings } from '../methods/loss.ts';
import { type Regularisers, regularise } from '../methods/regularise.ts';
import { stepRng } from '../methods/rng.ts';
import { type Ema, type Lora, type Optimizer, scope, type Tensor } from '../native/index.ts';
import { requireFiniteGradient, requireFiniteLosses } from './finite.ts';
import type { LiveTeachers } from './live-teachers.ts';
import { type LrSchedule, lrFactor } from './lr.ts';
import type { Prior } from './prior.ts';
import { type Network, TrainedRole } from './roles.ts';
import type { BatchSource } from './source.ts';

/** A LoRA on the student. */
export interface NamedLora {
  /** Its name among several; none where it is the only one. */
  readonly name: string | undefined;
  readonly lora: Lora;
  /** What goes with it on the text encoders. */
  readonly text?: Lora | undefined;
}

/** A method at work. */
export interface MethodRun {
  readonly method: Method;
  /** Of the recipe, parsed by the method's own schema. */
  readonly options: { readonly id: string };
  /** What it keeps between steps; changed by it. */
  readonly state: Record<string, number>;
}

/** What a trainer works with; it owns none of it. */
export interface TrainerParts {
  readonly student: Network;
  /** The LoRAs on the student that are trained in place of its own weights; none where these are. */
  readonly loras: readonly NamedLora[];
  /** The optimizer of each role's weights. */
  readonly optimizers: Readonly<Record<TrainedRoleName, Optimizer>>;
  readonly ema: Ema | undefined;
  /** The student as it was before training, where it is asked. */
  readonly prior: Prior | undefined;
  /** The teachers themselves, where they are asked. */
  readonly teachers: LiveTeachers | undefined;
  /** The recipe's method, then those that data entries have of their own; rows of a batch say which. */
  readonly methods: readonly [MethodRun, ...MethodRun[]];
  readonly regularise: Regularisers;
  readonly plan: BatchPlan;
  readonly source: BatchSource;
  readonly seed: number;
  readonly loss: LossSettings;
  /** Base learning rate. */
  readonly lr: number;
  readonly schedule: LrSchedule;
  /** Updates of the whole run: what the schedule stretches over. */
  readonly steps: number;
  /** Batches whose gradients are averaged into one update. */
  readonly accumulation: number;
  /** Largest gradient norm; Infinity clips nothing. */
  readonly clip: number;
  readonly recompute: boolean;
}

/** Figures of one update. */
export interface StepFigures {
  readonly loss: number;
  readonly lr: number;
  readonly gradNorm: number;
  /** Losses against single targets, as `loss/<teacher>`, and what methods log, as `<method>/<name>`. */
  readonly also: Readonly<Record<`${string}/${string}`, number>>;
}

/** The batch that is computed and the one that is read. */
const REMEMBERED_BATCHES = 2;

/** Performs updates, one at a time. All that an update depends on is the recipe, the step and the tensors. */
export class Trainer {
  readonly parts: TrainerParts;
  readonly #role: TrainedRole;
  /** Rows of the batch that is computed and of the one that is read, by their numbers. */
  readonly #rows = new Map<number, readonly BatchRow[]>();

  constructor(parts: TrainerParts) {
    this.parts = parts;
    this.#role = new TrainedRole(parts.student, parts.recompute);
  }

  /** Performs the update with this number, from 0. */
  async update(number: number): Promise<StepFigures> {
    const { ema, schedule, steps } = this.parts;
    const [{ method, options }] = this.parts.methods;
    const lr = this.parts.lr * lrFactor(schedule, number, steps);
    let figures: StepFigures | undefined;
    const phases = method.phases(number, options);
    for (const [index, phase] of phases.entries()) {
      // What is read next: the same batches for the next phase, or those of the next update.
      const next = index + 1 < phases.length ? number : number + 1;
      figures = await this.#phase(phase, number, { lr, next: next * this.parts.accumulation });
    }
    ema?.update();
    if (figures === undefined) throw new RangeError(`method ${method.id} has no phase at step ${number + 1}`);
    return figures;
  }

  /** One phase of an update: gradients over all its batches, then a step of each optimizer. `next`: the batch after it. */
  #phase(phase: string, number: number, { lr, next }: { lr: number; next: number }): Promise<StepFigures> {
    const { optimizers, accumulation, clip } = this.parts;
    const [{ method }] = this.parts.methods;
    return scope(async () => {
      const losses: MethodLoss[] = [];
      const keys: string[] = [];
      for (let micro = 0; micro < accumulation; micro += 1) {
        const batchNumber = number * accumulation + micro;
        const { loss, rows } = this.#accumulate(phase, batchNumber);
        this.#readAhead(micro + 1 < accumulation ? batchNumber + 1 : next);
        losses.push(loss);
        keys.push(...rows);
      }
      const trained = (method.groups[phase] ?? []).map((role) => optimizers[role]);
      const norms = trained.map((optimizer) => optimizer.clip(clip));
      const [perSample, totals, also, lengths] = await Promise.all([
        Promise.all(losses.map((loss) => loss.perSample.toArray())),
        Promise.all(losses.map(({ total }) => total.item())),
        Promise.all(losses.map(readLogged)),
        Promise.all(norms.map((norm) => norm.item())),
      ]);
      const gradNorm = Math.hypot(...lengths);
      // Before the step: what is not finite would be in the weights for good.
      requireFiniteLosses(
        number + 1,
        perSample.flatMap((values) => [...values]),
        keys,
      );
      requireFiniteGradient(number + 1, gradNorm, keys);
      for (const optimizer of trained) {
        optimizer.step(lr);
        optimizer.zeroGrad();
      }
      return { loss: mean(totals), lr, gradNorm, also: meanByName(also) };
    });
  }

  /** Has a batch read while the engine computes what is enqueued. */
  #readAhead(batchNumber: number): void {
    const { source, steps, accumulation } = this.parts;
    if (source.readAhead !== undefined && batchNumber < steps * accumulation)
      source.readAhead(this.#rowsOf(batchNumber));
  }

  /** The rows of a batch. Each is asked for twice, and going back in the plan's order can take it long. */
  #rowsOf(batchNumber: number): readonly BatchRow[] {
    const rows = this.#rows.get(batchNumber) ?? this.parts.plan.rows(batchNumber);
    this.#rows.set(batchNumber, rows);
    const [oldest] = this.#rows.keys();
    if (this.#rows.size > REMEMBERED_BATCHES && oldest !== undefined) this.#rows.delete(oldest);
    return rows;
  }

  /** Adds the gradients of one batch. */
  #accumulate(phase: string, batchNumber: number): { loss: MethodLoss; rows: string[] } {
    const { source, seed, accumulation, regularise: added } = this.parts;
    const rows = this.#rowsOf(batchNumber);
    const batch = source.load(rows);
    const { method, options, state } = methodOfRows(this.parts.methods, rows);
    const roles = rolesOf(this.#role, this.parts);
    const terms = method.step(phase, batch, roles, stepRng(seed, batchNumber), { options, state });
    const loss = evaluate(
      regularise(terms, batch, roles, added, this.parts.loss.masks.prior),
      batch,
      this.parts.loss,
      weightsOf(rows),
    );
    this.#role.backward(loss.total.scale(1 / accumulation));
    return { loss: { ...loss, method: method.id }, rows: rows.map((row) => source.keyOf(row)) };
  }
}

/** The networks of a run beside a student. */
export function rolesOf(student: Role, { prior, teachers }: Pick<TrainerParts, 'prior' | 'teachers'>): Roles {
  return { student, ...(prior === undefined ? {} : { prior: prior.role }), teachers: teachers?.roles };
}

/** The method that a batch's rows are trained by. */
export function methodOfRows(methods: readonly MethodRun[], rows: readonly BatchRow[]): MethodRun {
  const [part = 0] = rows.map((row) => row.part);
  const found = methods[part];
  if (found === undefined) throw new RangeError(`the run has no method ${part}`);
  return found;
}

/** Weights of rows by their data entries. */
function weightsOf(rows: readonly BatchRow[]): Float64Array {
  return Float64Array.from(rows, ({ lossWeight = 1 }) => lossWeight);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The loss of a batch, and the method that it comes from. */
interface MethodLoss extends BatchLoss {
  readonly method: string;
}

type LogName = `${string}/${string}`;

/** Values of what a batch logs, as `loss/<name>` and `<method>/<name>`. */
async function readLogged({ also, figures, method }: MethodLoss): Promise<ReadonlyMap<LogName, number>> {
  const logged: (readonly [LogName, Tensor])[] = [
    ...[...also].map(([name, tensor]) => [`loss/${name}`, tensor] as const),
    ...[...figures].map(([name, tensor]) => [`${method}/${name}`, tensor] as const),
  ];
  return new Map(await Promise.all(logged.map(async ([name, tensor]) => [name, await tensor.item()] as const)));
}

/**
 * Mean of each logged number over the batches of an update that have it. One that is not finite is none (a ratio of nothing
 * to nothing; JSON has no word for it); that losses are finite is looked at by itself.
 */
function meanByName(batches: readonly ReadonlyMap<LogName, number>[]): StepFigures['also'] {
  const names = [...new Set(batches.flatMap((batch) => [...batch.keys()]))];
  const means = names.flatMap((name) => {
    const values = batches.flatMap((batch) => batch.get(name) ?? []).filter(Number.isFinite);
    return values.length === 0 ? [] : [[name, mean(values)] as const];
  });
  return Object.fromEntries(means);
}
