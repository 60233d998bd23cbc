import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { inputError } from '../errors.ts';
import { type Evaluation, evaluationSchema } from '../evaluate/evaluation.ts';
import { readMetrics } from '../train/metrics.ts';
import type { RunReport, StepSamples } from './run-report.ts';

const verificationSchema = z.array(
  z.strictObject({
    subject: z.string(),
    expected: z.enum(['clean', 'damage']),
    entries: z.int().nonnegative(),
    findings: z.array(z.string()),
    wasmEqual: z.boolean().nullable(),
    seconds: z.strictObject({ native: z.number(), wasm: z.number().nullable() }),
  }),
);
const stagesSchema = z.array(z.strictObject({ name: z.string(), seconds: z.number() }));

/** Names of the files in a run's folder that a report reads besides the trainer's own. */
export const RUN_FILES = {
  recipe: 'recipe.json',
  metrics: 'metrics.jsonl',
  samples: 'samples',
  evaluation: join('evaluation', 'evaluation.json'),
  verification: 'verification.json',
  stages: 'stages.json',
} as const;

/**
 * Reads what a run's folder has to tell. Only `recipe.json` must be there; what else is missing is left out.
 *
 * @param madeBy potstill's version and the machine, as one line
 * @throws PotstillError ERR_RUN_NOT_FOUND, ERR_RUN_FILE naming the file and place
 */
export async function loadRun(folder: string, madeBy: string): Promise<RunReport> {
  const recipe = await readJson(join(folder, RUN_FILES.recipe), z.record(z.string(), z.unknown()));
  if (recipe === undefined) {
    throw inputError('ERR_RUN_NOT_FOUND', 'this is not a run: it has no recipe.json', {
      where: folder,
      remedy: 'Name the output folder of a `potstill train` or `potstill demo`.',
    });
  }
  const evaluation = await readJson(join(folder, RUN_FILES.evaluation), evaluationSchema);
  return {
    name: typeof recipe['name'] === 'string' ? recipe['name'] : folder,
    recipe,
    metrics: await orMissing(readMetrics(join(folder, RUN_FILES.metrics)), []),
    samples: await loadSamples(join(folder, RUN_FILES.samples)),
    verification: (await readJson(join(folder, RUN_FILES.verification), verificationSchema)) ?? [],
    ...(evaluation === undefined ? {} : { evaluation }),
    pictures: evaluation === undefined ? new Map() : await loadPictures(folder, evaluation),
    stages: (await readJson(join(folder, RUN_FILES.stages), stagesSchema)) ?? [],
    madeBy,
  };
}

async function readJson<T>(path: string, schema: z.ZodType<T>): Promise<T | undefined> {
  const text = await orMissing(readFile(path, 'utf8'), undefined);
  if (text === undefined) return undefined;
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    const issue = cause instanceof z.ZodError ? cause.issues[0] : undefined;
    const what = issue === undefined ? 'is not JSON' : `${issue.message} (at ${issue.path.join('.') || 'the top'})`;
    throw inputError('ERR_RUN_FILE', what, {
      where: path,
      remedy: 'Remove the file to leave its part out of the report, or make the run again.',
      cause,
    });
  }
}

async function orMissing<T>(read: Promise<T>, missing: T): Promise<T> {
  return read.catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return missing;
    throw error;
  });
}

async function loadSamples(folder: string): Promise<StepSamples[]> {
  const steps = (await orMissing(readdir(folder), [])).flatMap((name) => {
    const digits = /^step-(\d+)$/.exec(name)?.[1];
    return digits === undefined ? [] : [{ step: Number(digits), folder: join(folder, name) }];
  });
  steps.sort((a, b) => a.step - b.step);
  return Promise.all(
    steps.map(async ({ step, folder: pictures }) => {
      const names = (await readdir(pictures)).filter((name) => name.endsWith('.png')).sort();
      const images = names.map(async (name) => ({
        name: name.slice(0, -'.png'.length),
        png: await readFile(join(pictures, name)),
      }));
      return { step, images: await Promise.all(images) };
    }),
  );
}

async function loadPictures(folder: string, evaluation: Evaluation): Promise<Map<string, Uint8Array>> {
  const names = evaluation.images.flatMap(({ files }) => Object.values(files));
  const pictures = new Map<string, Uint8Array>();
  for (const name of names) {
    const png = await orMissing(readFile(join(folder, 'evaluation', name)), undefined);
    if (png !== undefined) pictures.set(name, png);
  }
  return pictures;
}
