import type { Engine } from '../../native/engine.ts';
import { openAdaptedUnet, type WeightedAdapter } from '../../native/lora.ts';
import { openModel } from '../../native/model.ts';
import { scope } from '../../native/scope.ts';
import type { TeacherPlan } from '../plan/types.ts';
import { CacheReader, type ReaderPlans } from '../reader.ts';
import { ROWS_PER_BATCH } from './batches.ts';
import type { ComponentBuild } from './build-component.ts';
import { runsOf } from './runs.ts';

/** What a teacher is loaded from. */
export interface TeacherFiles {
  readonly model: string;
  /** Laid into its weights, in order. */
  readonly adapters: readonly WeightedAdapter[];
}

/**
 * How a teacher's predictions are made: for every sample and draw, the UNet of `model` with its adapters at the cached
 * latents (as they are stored, rounding included), the draw's noise and timestep, and the cached text.
 *
 * @param shared the plans of the latents and the text, both sealed when the build is opened
 */
export function teacherBuild(
  engine: Engine,
  plan: TeacherPlan,
  shared: Omit<ReaderPlans, 'teachers'>,
  { model, adapters }: TeacherFiles,
): ComponentBuild {
  const sizeOf = (record: number): string => {
    const [view = -1] = plan.samples[Math.floor(record / plan.draws)] ?? [];
    return shared.latents.views[view]?.view.split('+', 1)[0] ?? '';
  };
  return {
    plan,
    label: `teacher ${plan.id}`,
    unit: plan.fields.length > 1 ? 'draws' : 'predictions',
    open: async () => {
      const reader = await CacheReader.open(engine, { ...shared, teachers: [] });
      const { schedule } = await openModel(engine, model);
      const unet = await openAdaptedUnet(engine, model, adapters, plan.storage);
      return {
        produce: async (from, to, shard, advance) => {
          for (const run of runsOf({ from, to }, ROWS_PER_BATCH, sizeOf)) {
            const rows = Array.from({ length: run.to - run.from }, (_, offset) => {
              const record = run.from + offset;
              return { sample: Math.floor(record / plan.draws), draw: record % plan.draws };
            });
            const labels = rows.map((row) => describe(plan, shared, row));
            await scope(async () => {
              const { noise, timesteps } = reader.draws(plan, rows);
              const views = rows.map((row) => reader.pairOf(plan, { ...row, unconditional: false }).view);
              const sample = schedule.addNoise(reader.latents(views), noise, timesteps);
              for (const field of plan.fields) {
                const text = reader.text(
                  rows.map((row) => reader.pairOf(plan, { ...row, unconditional: field === 'uncond' })),
                );
                const { outputs } = unet.forward({ sample, timesteps, ...text });
                await shard.append(field, outputs.prediction, labels);
              }
            });
            advance(rows.length);
          }
        },
        dispose: () => {
          unet.dispose();
          schedule.dispose();
        },
      };
    },
  };
}

function describe(
  plan: TeacherPlan,
  { latents, text }: Omit<ReaderPlans, 'teachers'>,
  { sample, draw }: { readonly sample: number; readonly draw: number },
): string {
  const [view = -1, caption = -1] = plan.samples[sample] ?? [];
  const { image = '', view: crop = '' } = latents.views[view] ?? {};
  return `prediction of teacher ${plan.id} for image ${image.slice(0, 12)}… (${crop}), ${JSON.stringify(text.captions[caption])}, draw ${draw}`;
}
