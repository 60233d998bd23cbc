import type { BatchPlan } from '../data/batches.ts';
import type { Method, RoleName } from '../methods/define.ts';
import { evaluate, type LossOptions } from '../methods/loss.ts';
import { stepRng } from '../methods/rng.ts';
import { type AdamW, type Ema, scope, type Unet } from '../native/index.ts';
import { requireFiniteGradient, requireFiniteLosses } from './finite.ts';
import { type LrSchedule, lrFactor } from './lr.ts';
import { TrainedRole } from './roles.ts';
import type { BatchSource } from './source.ts';

/** What a trainer works with; it owns none of it. */
export interface TrainerParts {
  readonly student: Unet;
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
    const { optimizers, ema, accumulation, schedule, steps, method, methodOptions } = this.parts;
    const lr = this.parts.lr * lrFactor(schedule, number, steps);
    let figures: StepFigures | undefined;
    for (const phase of method.phases(number, methodOptions)) {
      const losses = new Mean();
      const keys: string[] = [];
      for (let micro = 0; micro < accumulation; micro += 1) {
        keys.push(...(await this.#accumulate(phase, number, number * accumulation + micro, losses)));
      }
      let gradNorm = 0;
      for (const role of method.groups[phase] ?? []) {
        gradNorm = Math.hypot(gradNorm, await this.#step(optimizers[role], number, lr, keys));
      }
      figures = { ...losses.figures(), lr, gradNorm };
    }
    ema?.update();
    if (figures === undefined) throw new RangeError(`method ${method.id} has no phase at step ${number + 1}`);
    return figures;
  }

  /** Applies the gathered gradients, clipped; gives their norm before clipping. */
  async #step(optimizer: AdamW, number: number, lr: number, keys: readonly string[]): Promise<number> {
    const norm = await scope(() => optimizer.clip(this.parts.clip).item());
    requireFiniteGradient(number + 1, norm, keys);
    optimizer.step(lr);
    optimizer.zeroGrad();
    return norm;
  }

  /** Adds the gradients of one batch; gives the keys of its samples. */
  #accumulate(phase: string, number: number, batchNumber: number, losses: Mean): Promise<string[]> {
    const { method, methodOptions: options, methodState: state, plan, source, seed, loss, accumulation } = this.parts;
    return scope(async () => {
      const rows = plan.rows(batchNumber);
      const keys = rows.map((row) => source.keyOf(row));
      const batch = source.load(rows);
      const roles = { student: this.#role };
      const terms = method.step(phase, batch, roles, stepRng(seed, batchNumber), { options, state });
      const { total, perSample, also } = evaluate(terms, batch, loss);
      total.scale(1 / accumulation).backward();
      this.#role.backward();
      const values = await perSample.toArray();
      requireFiniteLosses(number + 1, values, keys);
      losses.add('loss', await total.item());
      for (const [name, value] of also) losses.add(`loss/${name}`, await value.item());
      return keys;
    });
  }
}

/** Means over the batches of one update. */
class Mean {
  readonly #sums = new Map<string, { sum: number; count: number }>();

  add(name: string, value: number): void {
    const entry = this.#sums.get(name) ?? { sum: 0, count: 0 };
    this.#sums.set(name, { sum: entry.sum + value, count: entry.count + 1 });
  }

  figures(): { loss: number; also: Record<`loss/${string}`, number> } {
    const means = [...this.#sums].map(([name, { sum, count }]) => [name, sum / count] as const);
    const also = Object.fromEntries(means.filter(([name]) => name !== 'loss')) as Record<`loss/${string}`, number>;
    return { loss: means.find(([name]) => name === 'loss')?.[1] ?? Number.NaN, also };
  }
}
