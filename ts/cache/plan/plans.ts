import { canonicalJson, type Json } from '../canonical.ts';
import { sha256OfText } from '../data/digest.ts';
import type { DataScan } from '../data/scan.ts';
import { sizeOfView } from '../data/view.ts';
import {
  type EncoderDigest,
  type LatentsPlan,
  type ModelDigest,
  PLAN_VERSION,
  type Plan,
  type PredictionField,
  type StorageDtype,
  type TeacherPlan,
  type TextPlan,
  type TextShape,
} from './types.ts';

/**
 * Records per shard. A killed build loses at most one shard, and a verifier reads files one by one: 64 records of
 * 512² are 2 MB of latents, 7.5 MB of text (SD1.5, f16) and 4 MB of predictions.
 */
const SHARD_RECORDS = 64;

/** What a VAE adds to a plan. */
export interface VaeFacts {
  readonly digest: ModelDigest;
  readonly scalingFactor: number;
  readonly channels: number;
  readonly downscale: number;
}

/** What the text encoders add to a plan. */
export interface TextFacts {
  readonly encoders: readonly EncoderDigest[];
  readonly shape: TextShape;
}

/** What a teacher's UNet adds to a plan. */
export interface UnetFacts {
  readonly digest: ModelDigest;
  readonly prediction: TeacherPlan['prediction'];
  readonly schedule: TeacherPlan['schedule'];
  /** Whether it is conditioned on sizes, as SDXL is. */
  readonly timeIds: boolean;
  /** Laid over its weights, in order. */
  readonly adapters: TeacherPlan['adapters'];
  /** What its matrices are held in. */
  readonly storage: TeacherPlan['storage'];
}

/** What a recipe says of draws. */
export interface DrawOptions {
  readonly draws: number;
  readonly generator: TeacherPlan['noise']['generator'];
  readonly baseSeed: number;
  readonly timesteps: readonly [number, number];
  /** Draws that came from elsewhere, with generator `stored`. */
  readonly given?: TeacherPlan['given'];
  /** SDXL's size conditioning of predictions that came from elsewhere, for every view. */
  readonly timeIds?: TeacherPlan['timeIds'];
}

/** The plan of the latents of all views. */
export function planLatents(scan: DataScan, { digest, ...vae }: VaeFacts, dtype: StorageDtype): LatentsPlan {
  return {
    format: 'potstill-cache',
    version: PLAN_VERSION,
    component: 'latents',
    dtype,
    shardRecords: SHARD_RECORDS,
    vae: { ...digest, ...vae, sampling: 'mean' },
    views: scan.views,
  };
}

/** The plan of the text of all captions. */
export function planText(scan: DataScan, { encoders, shape }: TextFacts, dtype: StorageDtype): TextPlan {
  return {
    format: 'potstill-cache',
    version: PLAN_VERSION,
    component: 'text',
    dtype,
    shardRecords: SHARD_RECORDS,
    encoders,
    shape,
    captions: scan.captions,
  };
}

/** What is predicted on: the two components that every teacher shares. */
export interface SharedPlans {
  readonly latents: LatentsPlan;
  readonly text: TextPlan;
}

/** The plan of one teacher's predictions for the scan's samples. */
export function planTeacher(
  id: string,
  scan: Pick<DataScan, 'samples' | 'views'>,
  shared: SharedPlans,
  unet: UnetFacts,
  fields: readonly PredictionField[],
  { draws, generator, baseSeed, timesteps, given, timeIds }: DrawOptions,
  dtype: StorageDtype,
): TeacherPlan {
  return {
    format: 'potstill-cache',
    version: PLAN_VERSION,
    component: 'teacher',
    dtype,
    shardRecords: SHARD_RECORDS,
    id,
    unet: unet.digest,
    prediction: unet.prediction,
    schedule: unet.schedule,
    adapters: unet.adapters,
    storage: unet.storage,
    fields,
    unconditional: 'empty',
    noise: { generator, baseSeed },
    draws,
    timesteps,
    given,
    latents: planDigest(shared.latents),
    text: planDigest(shared.text),
    samples: scan.samples.map(({ view, caption }) => [view, caption] as const),
    timeIds: unet.timeIds ? (timeIds ?? scan.views.map(({ view }) => timeIdsOf(view))) : undefined,
  };
}

/** The canonical JSON of a plan: the bytes of its `plan.json`. */
export function serialisePlan(plan: Plan): string {
  return canonicalJson(plan as unknown as Json);
}

/** SHA-256 of a plan's canonical JSON: the name of what was asked. */
export function planDigest(plan: Plan): string {
  return sha256OfText(serialisePlan(plan));
}

/** As if every picture had been taken at the size of its view, uncropped: what a student is asked for when it samples. */
function timeIdsOf(view: string): readonly number[] {
  const { width, height } = sizeOfView(view);
  return [height, width, 0, 0, height, width];
}
