import { bytesInFilesLayout } from './files-layout.ts';
import type { ComponentSummary, SummarisedPlan } from './summary.ts';

/** What a cache costs on disk. */
export interface CacheStatistics {
  /** Training samples: a view with a caption and a draw of (timestep, noise), whatever the number of teachers. */
  readonly samples: number;
  readonly teachers: number;
  /** Bytes of everything that is there. */
  readonly bytes: number;
  readonly bytesPerSample: number;
  /** The same predictions with a caption in the files layout; it has no place for unconditional ones, nor for latents. */
  readonly files: { readonly count: number; readonly bytes: number; readonly bytesPerSample: number };
  /** Bytes of the files layout for each byte here. */
  readonly ratio: number;
  /** Bytes of each component, for each sample. */
  readonly components: readonly {
    readonly component: string;
    readonly bytes: number;
    readonly bytesPerSample: number;
  }[];
}

type PlanOf<Kind extends SummarisedPlan['component']> = Extract<SummarisedPlan, { component: Kind }>;

/** Counts a cache; undefined while latents, text or every teacher is missing, for then it has no samples. */
export function cacheStatistics(summaries: readonly ComponentSummary[]): CacheStatistics | undefined {
  const plans = summaries.map(({ plan }) => plan);
  const latents = plans.find((plan): plan is PlanOf<'latents'> => plan.component === 'latents');
  const text = plans.find((plan): plan is PlanOf<'text'> => plan.component === 'text');
  const teachers = plans.filter((plan): plan is PlanOf<'teacher'> => plan.component === 'teacher');
  const samples = Math.max(0, ...teachers.map((plan) => plan.viewOfSample.length * plan.draws));
  if (latents === undefined || text === undefined || samples === 0) return undefined;
  const files = { count: 0, bytes: 0 };
  const bytesOfSize = latents.sizes.map((size) => bytesInFilesLayout(latentShape(latents, size), text.shape));
  for (const { viewOfSample, draws } of teachers) {
    files.count += viewOfSample.length * draws;
    for (const view of viewOfSample) files.bytes += (bytesOfSize[latents.sizeOfView[view] ?? -1] ?? 0) * draws;
  }
  const bytes = summaries.reduce((sum, summary) => sum + summary.bytes, 0);
  return {
    samples,
    teachers: teachers.length,
    bytes,
    bytesPerSample: bytes / samples,
    files: { ...files, bytesPerSample: files.bytes / samples },
    ratio: files.bytes / bytes,
    components: summaries.map((summary) => ({
      component: summary.component,
      bytes: summary.bytes,
      bytesPerSample: summary.bytes / samples,
    })),
  };
}

function latentShape({ vae }: PlanOf<'latents'>, size: string): readonly number[] {
  const [width = 0, height = 0] = size.split('x').map(Number);
  return [vae.channels, height / vae.downscale, width / vae.downscale];
}
