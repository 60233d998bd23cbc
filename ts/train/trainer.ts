import type { BatchPlan } from '../data/batches.ts';
import type { Method, RoleName } from '../methods/define.ts';
import { type BatchLoss, evaluate, type LossOptions } from '../methods/loss.ts';
import { stepRng } from '../methods/rng.ts';
import { type AdamW, type Ema, type Lora, scope, type Tensor } from '../native/index.ts';
import { requireFiniteGradient, requireFiniteLosses } from './finite.ts';
import { type LrSchedule, lrFactor } from './lr.ts';
import { type Network, TrainedRole } from './roles.ts';
import type { BatchSource } from './source.ts';

/** What a trainer works with; it owns none of it. */
export interface TrainerParts {
  readonly student: Network;
  /** The LoRA on the student that is trained in place of its own weights. */
  readonly lora: Lora | undefined;
  /** The optimizer of each role's weights. */
  readonly optimizers: Readonly<Record<RoleName, AdamW>>;
  readonly ema: Ema | undefined;
  readonly method: Method;
  /** The recipe's `method`, parsed by the method's own schema. */
  readonly methodOptions: { readonly id: string };
  /** What the method keeps between steps; changed by it. */
  readonly methodState: Record<string, number>;
  readonly plan: BatchPlan;
  readonly source: BatchSource;
  readonly seed: number;
  readonly loss: LossOptions;
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
  /** Losses against single targets, as `loss/<teacher>`. */
  readonly also: Readonly<Record<`loss/${string}`, number>>;
}

/** Performs updates, one at a time. All that an update depends on is the recipe, the step and the tensors. */
export class Trainer {
  readonly parts: TrainerParts;
  readonly #role: TrainedRole;

  constructor(parts: TrainerParts) {
    this.parts = parts;
    this.#role = new TrainedRole(parts.student, parts.recompute);
  }

  /** Performs the update with this number, from 0. */
  async update(number: number): Promise<StepFigures> {
    const { ema, schedule, steps, method, methodOptions } = this.parts;
    const lr = this.parts.lr * lrFactor(schedule, number, steps);
    let figures: StepFigures | undefined;
    for (const phase of method.phases(number, methodOptions)) figures = await this.#phase(phase, number, lr);
    ema?.update();
    if (figures === undefined) throw new RangeError(`method ${method.id} has no phase at step ${number + 1}`);
    return figures;
  }

  /** One phase of an update: gradients over all its batches, then a step of each optimizer. */
  #phase(phase: string, number: number, lr: number): Promise<StepFigures> {
    const { method, optimizers, accumulation, clip } = this.parts;
    return scope(async () => {
      const losses: BatchLoss[] = [];
      const keys: string[] = [];
      for (let micro = 0; micro < accumulation; micro += 1) {
        const { loss, rows } = this.#accumulate(phase, number * accumulation + micro);
        losses.push(loss);
        keys.push(...rows);
      }
      const trained = (method.groups[phase] ?? []).map((role) => optimizers[role]);
      const norms = trained.map((optimizer) => optimizer.clip(clip));
      const [perSample, totals, also, lengths] = await Promise.all([
        Promise.all(losses.map((loss) => loss.perSample.toArray())),
        Promise.all(losses.map(({ total }) => total.item())),
        Promise.all(losses.map(async ({ also }) => readAll(also))),
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

  /** Adds the gradients of one batch. */
  #accumulate(phase: string, batchNumber: number): { loss: BatchLoss; rows: string[] } {
    const { method, methodOptions: options, methodState: state, plan, source, seed, accumulation } = this.parts;
    const rows = plan.rows(batchNumber);
    const batch = source.load(rows);
    const roles = { student: this.#role };
    const terms = method.step(phase, batch, roles, stepRng(seed, batchNumber), { options, state });
    const loss = evaluate(terms, batch, this.parts.loss);
    this.#role.backward(loss.total.scale(1 / accumulation));
    return { loss, rows: rows.map((row) => source.keyOf(row)) };
  }
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

async function readAll(tensors: ReadonlyMap<string, Tensor>): Promise<ReadonlyMap<string, number>> {
  const entries = [...tensors].map(async ([name, tensor]) => [name, await tensor.item()] as const);
  return new Map(await Promise.all(entries));
}

/** Mean of each named loss over the batches of an update, as `loss/<name>`. */
function meanByName(batches: readonly ReadonlyMap<string, number>[]): StepFigures['also'] {
  const names = [...new Set(batches.flatMap((batch) => [...batch.keys()]))];
  return Object.fromEntries(
    names.map((name) => [`loss/${name}`, mean(batches.flatMap((batch) => batch.get(name) ?? []))]),
  );
}
