import type { z } from 'zod';
import type { Tensor } from '../native/index.ts';
import type { Known, Point, Prediction } from './prediction.ts';
import type { Rng } from './rng.ts';

/** What a cached prediction was made with: the caption, or the unconditional text. */
export type CacheField = 'cond' | 'uncond';

/** A network that a method may ask, in one of its states. */
export type RoleName = 'student';

/** What a method wants to find in a batch. */
export interface Needs {
  /** Raw teacher predictions at the cached draws; none means that noise and timestep are drawn afresh every step. */
  readonly fields: readonly CacheField[];
  /** Networks that the method asks during training. */
  readonly roles: readonly RoleName[];
}

/** Text conditioning of a batch, one row per sample. */
export interface TextConditioning {
  /** [B, 77, d]. */
  readonly encoderHiddenStates: Tensor;
  /** SDXL's pooled text, [B, 1280]. */
  readonly textEmbeds?: Tensor | undefined;
  /** SDXL's sizes and crop, [B, 6]. */
  readonly timeIds?: Tensor | undefined;
}

/** One teacher's raw predictions for a batch. */
export interface TeacherPredictions {
  readonly id: string;
  /** Share of this teacher in the target; the shares of a batch sum to 1. */
  readonly weight: number;
  readonly cond: Prediction;
  readonly uncond?: Prediction | undefined;
}

/** Rows of training data as tensors. Rows whose caption was dropped carry the unconditional text and prediction. */
export interface Batch extends Known {
  readonly size: number;
  readonly text: TextConditioning;
  readonly teachers: readonly TeacherPredictions[];
  /** One number per row as a tensor that broadcasts over the row, [B, 1, 1, 1]. */
  perRow(values: Float64Array): Tensor;
}

/** A network as a method sees it. */
export interface Role {
  /** Predicts with gradients for what the role trains; the loop runs the tape backward after the loss. */
  predict(point: Point, text: TextConditioning): Prediction;
  /** The prediction of a perfect network for known data: the noise, or its equal in the role's kind. */
  truth(batch: Batch): Prediction;
}

/** The networks of a run. */
export type Roles = Readonly<Record<RoleName, Role>>;

/**
 * One part of a loss: a prediction and what it should have been. The loss function, its weight and the mean are applied
 * to it by the loop, once, in that order; a method never sees them.
 */
export interface Term {
  readonly prediction: Prediction;
  /** Carries no gradient. Of any kind: it is read as the prediction's. */
  readonly target: Prediction;
  /** Targets to log the prediction's loss against, without training on it: one per teacher. */
  readonly also?: Readonly<Record<string, Prediction>> | undefined;
}

/** What a step is given beside its data. */
export interface StepContext<Options> {
  readonly options: Options;
  /** Numbers that the method keeps between steps, to be changed in place; every checkpoint holds them. */
  readonly state: Record<string, number>;
}

/** Schema of a method's part of a recipe: an object told apart by its `id`. */
export type OptionsSchema = z.ZodObject<{ id: z.ZodLiteral<string> } & z.core.$ZodShape>;

/** A distillation method: how batches become terms of a loss. Everything else is the loop's. */
export interface Method<Schema extends OptionsSchema = OptionsSchema> {
  /** Name in recipes. */
  readonly id: string;
  /** The method's part of a recipe, with `id`. */
  readonly options: Schema;
  /** What training by these options reads. */
  needs(options: z.output<Schema>): Needs;
  /** The roles whose weights each phase updates. */
  readonly groups: Readonly<Record<string, readonly RoleName[]>>;
  /** What the method keeps between steps, as it is at the beginning of a run; saved in every checkpoint. */
  readonly state: Readonly<Record<string, number>>;
  /** The phases of a step, in order; each is a key of `groups`. */
  phases(step: number, options: z.output<Schema>): readonly string[];
  /** The loss of one phase on one batch, as terms: a function of its arguments, and of the state it keeps, alone. */
  step(phase: string, batch: Batch, roles: Roles, rng: Rng, context: StepContext<z.output<Schema>>): readonly Term[];
}

/** What a method's author writes: `groups`, `state` and `phases` default to one phase that trains the student. */
export type MethodDefinition<Schema extends OptionsSchema> = Pick<Method<Schema>, 'id' | 'options' | 'needs' | 'step'> &
  Partial<Pick<Method<Schema>, 'groups' | 'state' | 'phases'>>;

/** Completes a method's definition. */
export function defineMethod<Schema extends OptionsSchema>(definition: MethodDefinition<Schema>): Method<Schema> {
  return { groups: { student: ['student'] }, state: {}, phases: () => ['student'], ...definition };
}
