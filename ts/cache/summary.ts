import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { inputError } from '../errors.ts';
import { PLAN_FILE, SEAL_FILE } from './component.ts';
import { type ListedComponent, listComponents } from './listing.ts';
import { isRemote, placeIn, readDocument } from './place.ts';
import { readApart, type TakeMembers } from './plan/read-apart.ts';

/** A component as its plan and its folder tell, nothing of it checked by digest. */
export interface ComponentSummary {
  /** `latents`, `text` or `teachers/<id>`. */
  readonly component: string;
  readonly plan: SummarisedPlan;
  /** Whether its build came to an end. */
  readonly sealed: boolean;
  /** Records planned. */
  readonly records: number;
  /** Shard files that are there. */
  readonly shards: number;
  /** Bytes of all files in its folder. */
  readonly bytes: number;
}

/** What a summary looks at in plans; verification looks at all of it. */
const count = z.int().min(1);
const head = { dtype: z.string(), shardRecords: count };
/** Without the members of their lists, which are read apart. */
const planSchema = z.discriminatedUnion('component', [
  z.object({
    ...head,
    component: z.literal('latents'),
    vae: z.object({ channels: count, downscale: count }),
    views: z.array(z.never()),
  }),
  z.object({
    ...head,
    component: z.literal('text'),
    shape: z.object({ tokens: count, width: count, pooled: count.optional() }),
    captions: z.array(z.never()),
  }),
  z.object({
    ...head,
    component: z.literal('teacher'),
    prediction: z.string(),
    fields: z.array(z.enum(['cond', 'uncond'])).min(1),
    noise: z.object({ generator: z.string(), baseSeed: z.number() }),
    draws: count,
    timesteps: z.tuple([z.number(), z.number()]),
    samples: z.array(z.never()),
  }),
]);
const viewsSchema = z.array(z.object({ view: z.string().regex(/^\d{1,6}x\d{1,6}\+\d+\+\d+f?$/) }));
const captionsSchema = z.array(z.string());
const samplesSchema = z.array(z.tuple([z.int().min(0), z.int().min(0)]));

type PlanHead<Component> = Extract<z.infer<typeof planSchema>, { readonly component: Component }>;

/** A plan of hundreds of thousands of images, in a few words. */
export type SummarisedPlan =
  | (Omit<PlanHead<'latents'>, 'views'> & {
      /** Sizes of the pictures, `WxH`, in the order in which they are met. */
      readonly sizes: readonly string[];
      /** Of every view: the index of its size. */
      readonly sizeOfView: readonly number[];
    })
  | (Omit<PlanHead<'text'>, 'captions'> & { readonly captions: number })
  | (Omit<PlanHead<'teacher'>, 'samples'> & {
      /** Of every sample: its view. */
      readonly viewOfSample: readonly number[];
    });

/**
 * The components of a cache, latents and text first, then the teachers by name.
 *
 * @throws PotstillError `ERR_CACHE_MISSING` when there is no cache, `ERR_CACHE_PLAN` naming a plan that cannot be read
 */
export async function summariseCache(dir: string): Promise<readonly ComponentSummary[]> {
  if (!isRemote(dir)) {
    const info = await stat(dir).catch(() => undefined);
    if (info?.isDirectory() !== true) throw missing(dir, info === undefined ? 'no such folder' : 'is not a folder');
  }
  const found: ComponentSummary[] = [];
  for (const listed of await listComponents(dir)) if (hasPlan(listed)) found.push(await summarise(dir, listed));
  if (found.length === 0) {
    throw missing(dir, 'there is no cache here: neither latents nor text nor teachers have a plan');
  }
  return found;
}

/** Whether there is a component with a plan, whatever may be wrong with it. */
export async function hasComponents(dir: string): Promise<boolean> {
  return (await listComponents(dir)).some(hasPlan);
}

function hasPlan({ files }: ListedComponent): boolean {
  return files.some(({ name }) => name === PLAN_FILE);
}

function missing(dir: string, what: string): Error {
  return inputError('ERR_CACHE_MISSING', what, {
    where: dir,
    remedy:
      'Name the folder that has latents, text and teachers in it, or make one with `potstill cache build RECIPE`.',
  });
}

async function summarise(dir: string, { component, files }: ListedComponent): Promise<ComponentSummary> {
  const plan = await readSummarisedPlan(dir, component);
  return {
    component,
    plan,
    sealed: files.some(({ name }) => name === SEAL_FILE),
    records: recordsOf(plan),
    shards: files.filter(({ name }) => /^shard-\d{5,}\.safetensors$/.test(name)).length,
    bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
  };
}

function recordsOf(plan: SummarisedPlan): number {
  if (plan.component === 'latents') return plan.sizeOfView.length;
  return plan.component === 'text' ? plan.captions : plan.viewOfSample.length * plan.draws;
}

/** The bytes of a plan: those of a large one are never a text. */
async function planBytes(dir: string, path: string): Promise<Uint8Array> {
  return isRemote(dir) ? Buffer.from((await readDocument(dir, path)) ?? '') : readFile(join(dir, path));
}

async function readSummarisedPlan(dir: string, component: string): Promise<SummarisedPlan> {
  const path = `${component}/${PLAN_FILE}`;
  const unreadable = (what: string): Error =>
    inputError('ERR_CACHE_PLAN', what, {
      where: placeIn(dir, path),
      remedy: 'See what else is wrong with `potstill cache verify`, or delete the folder and build it again.',
    });
  const refuse = ({ issues: [issue] }: z.ZodError, list?: string, first = 0): Error => {
    const [index, ...rest] = issue?.path ?? [];
    const place = list === undefined ? issue?.path : [list, first + Number(index), ...rest];
    return unreadable(`is no plan of a cache: ${place?.join('.') || 'the document'}: ${issue?.message ?? ''}`);
  };
  /** Checks the members of a list and counts them, or notes what is wanted of them. */
  const reader = <Member>(
    list: string,
    schema: z.ZodType<Member[]>,
    note: (members: Member[]) => void,
  ): TakeMembers => {
    return (members, first) => {
      const { success, data, error } = schema.safeParse(members);
      if (!success) throw refuse(error, list, first);
      note(data);
    };
  };
  const [sizes, sizeOfView, viewOfSample] = [new Map<string, number>(), [] as number[], [] as number[]];
  let captions = 0;
  const lists = new Map([
    [
      'views',
      reader('views', viewsSchema, (members) => {
        for (const { view } of members) sizeOfView.push(indexIn(sizes, view.slice(0, view.indexOf('+'))));
      }),
    ],
    [
      'captions',
      reader('captions', captionsSchema, (members) => {
        captions += members.length;
      }),
    ],
    [
      'samples',
      reader('samples', samplesSchema, (members) => {
        for (const [view] of members) viewOfSample.push(view);
      }),
    ],
  ]);
  let json: unknown;
  try {
    json = readApart(await planBytes(dir, path), lists);
  } catch (cause) {
    if (cause instanceof SyntaxError) throw unreadable('is not JSON');
    throw cause;
  }
  const { success, data, error } = planSchema.safeParse(json);
  if (!success) throw refuse(error);
  const kind = component.startsWith('teachers/') ? 'teacher' : component;
  if (data.component !== kind) throw unreadable(`is a plan of ${data.component}, not of ${kind}`);
  switch (data.component) {
    case 'latents':
      return { ...data, sizes: [...sizes.keys()], sizeOfView };
    case 'text':
      return { ...data, captions };
    case 'teacher':
      return { ...data, viewOfSample };
  }
}

/** The index of a name, which it gets when it is met first. */
function indexIn(names: Map<string, number>, name: string): number {
  const known = names.get(name) ?? names.size;
  names.set(name, known);
  return known;
}
