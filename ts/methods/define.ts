import type { z } from 'zod';
import type { Tensor } from '../native/index.ts';
import type { Known, Point, Prediction } from './prediction.ts';
import type { Rng } from './rng.ts';

/** What a cached prediction was made with: the caption, or the unconditional text. */
export type CacheField = 'cond' | 'uncond';

/** A network that is trained. */
export type TrainedRoleName = 'student';

/**
 * A network that a method may ask, in one of its states; `prior` is the student as it was before training: with its
 * adapter off, or a frozen copy of the model that it started from.
 */
export type RoleName = TrainedRoleName | 'prior';

/** What a method may need during training: networks, and `teachers` themselves beside what they predicted for the cache. */
export type Need = RoleName | 'teachers';

/** What a method wants to find in a batch. */
export interface Needs {
  /** Raw teacher predictions at the cached draws; none means that noise and timestep are drawn afresh every step. */
  readonly fields: readonly CacheField[];
  /** Networks that the method asks during training. */
  readonly roles: readonly Need[];
  /** Whether the same predictions are wanted of every teacher's model without its adapters: `TeacherPredictions.base`. */
  readonly bases?: boolean;
}

/** Text conditioning of a batch, one row per sample. */
export interface TextConditioning {
  /** [B, 77, d]. */
  readonly encoderHiddenStates: Tensor;
  /** SDXL's pooled text, [B, 1280]. */
  readonly textEmbeds?: Tensor | undefined;
  /** SDXL's sizes and crop, [B, 6]. */
  readonly timeIds?: Tensor | undefined;
  /** The captions that were encoded: for networks whose text encoders are trained, which encode them themselves. */
  readonly prompts?: readonly string[] | undefined;
}

/** One teacher's raw predictions for a batch. */
export interface TeacherPredictions {
  readonly id: string;
  /** Share of this teacher in the target; the shares of a batch sum to 1. */
  readonly weight: number;
  readonly cond: Prediction;
  readonly uncond?: Prediction | undefined;
  /** The same of its model without its adapters, where the method needs it. */
  readonly base?: { readonly cond: Prediction; readonly uncond?: Prediction | undefined } | undefined;
}

/** Rows of training data as tensors. Rows whose caption was dropped carry the unconditional text and prediction. */
export interface Batch extends Known {
  readonly size: number;
  readonly text: TextConditioning;
  /** How much every place of a row counts, [B, 1, h, w], 0 to 1; none where all count alike. */
  readonly mask?: Tensor | undefined;
  /** The same rows without their captions. */
  unconditional(): TextConditioning;
  readonly teachers: readonly TeacherPredictions[];
  /** One number per row as a tensor that broadcasts over the row, [B, 1, 1, 1]. */
  perRow(values: Float64Array): Tensor;
}

/** A network that can be asked. */
export interface AskableRole {
  /** Predicts, with gradients for what the role trains; the loop runs the tape backward after the loss. */
  predict(point: Point, text: TextConditioning): Prediction;
}

/** A network as a method sees it. */
export interface Role extends AskableRole {
  /** The prediction of a perfect network for known data: the noise, or its equal in the role's kind. */
  truth(batch: Batch): Prediction;
}

/** The networks of a run; those beside the student are there where they are needed. */
export type Roles = Readonly<Record<TrainedRoleName, Role> & Partial<Record<RoleName, Role>>> & {
  /** The teachers, by their ids. */
  readonly teachers?: ReadonlyMap<string, AskableRole> | undefined;
};

/** A role that a method has said it needs. */
export function required(roles: Roles, name: RoleName): Role {
  const role = roles[name];
  if (role === undefined) throw new RangeError(`the run has no role "${name}"`);
  return role;
}

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
  /** Factor on the term's loss; 1 when left out. */
  readonly weight?: number | undefined;
  /** Where it counts in batches with a mask: inside of the mask unless it says otherwise. */
  readonly region?: 'outside' | undefined;
  /** Scalars to log as `<method>/<name>`. */
  readonly figures?: Readonly<Record<string, Tensor>> | undefined;
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
  readonly groups: Readonly<Record<string, readonly TrainedRoleName[]>>;
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
