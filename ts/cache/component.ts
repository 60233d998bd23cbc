import { inputError } from '../errors.ts';
import type { Json } from './canonical.ts';
import { placeIn, readDocument } from './place.ts';
import { differences, nameOfPart } from './plan/difference.ts';
import { serialisePlan } from './plan/plans.ts';
import type { Plan } from './plan/types.ts';

/** Files of every component. */
export const PLAN_FILE = 'plan.json';
export const SEAL_FILE = 'seal.json';

/** Name of the component's folder within the cache, and in messages: `latents`, `text`, `teachers/<id>`. */
export function componentName(plan: Plan): string {
  return plan.component === 'teacher' ? `teachers/${plan.id}` : plan.component;
}

/** What of a plan says how many records its component has. */
export type CountedPlan =
  | { readonly component: 'latents'; readonly views: readonly unknown[] }
  | { readonly component: 'text'; readonly captions: readonly unknown[] }
  | { readonly component: 'teacher'; readonly samples: readonly unknown[]; readonly draws: number };

/** Records of a component. */
export function recordCount(plan: CountedPlan): number {
  switch (plan.component) {
    case 'latents':
      return plan.views.length;
    case 'text':
      return plan.captions.length;
    case 'teacher':
      return plan.samples.length * plan.draws;
  }
}

/** What lies in a component's folder, compared with a plan. */
export type ComponentState = 'absent' | 'begun' | 'sealed';

/**
 * What lies in a component's folder: nothing, a build of this plan that has begun, or its sealed result.
 *
 * @throws PotstillError `ERR_CACHE_FOREIGN` when it is of another plan, naming what differs; `ERR_CACHE_PLAN` when its
 *   plan cannot be read
 */
export async function componentState(cache: string, plan: Plan): Promise<ComponentState> {
  const name = componentName(plan);
  const folder = placeIn(cache, name);
  const found = await readDocument(cache, `${name}/${PLAN_FILE}`);
  const sealed = await isSealed(cache, name);
  if (found === undefined) {
    if (!sealed) return 'absent';
    throw inputError('ERR_CACHE_PLAN', `has a ${SEAL_FILE} but no ${PLAN_FILE}`, {
      where: folder,
      remedy: deleteIt(folder),
    });
  }
  if (found !== serialisePlan(plan)) throw foreign(folder, found, plan);
  return sealed ? 'sealed' : 'begun';
}

/** Whether a component that lies in a cache is complete, by whatever plan. */
export async function isSealed(cache: string, name: string): Promise<boolean> {
  return (await readDocument(cache, `${name}/${SEAL_FILE}`)) !== undefined;
}

/**
 * The plan of a component that lies in a cache, unchecked but for being JSON; undefined when there is none.
 *
 * @throws PotstillError `ERR_CACHE_PLAN`
 */
export async function readPlan(cache: string, name: string): Promise<Plan | undefined> {
  const text = await readDocument(cache, `${name}/${PLAN_FILE}`);
  return text === undefined ? undefined : (parsePlan(text, placeIn(cache, name)) as unknown as Plan);
}

/** More differences than this are not listed one by one. */
const LISTED = 4;

function foreign(folder: string, found: string, plan: Plan): Error {
  const places = differences(parsePlan(found, folder), JSON.parse(serialisePlan(plan)) as Json);
  if (places.length === 0) {
    return inputError('ERR_CACHE_PLAN', `${PLAN_FILE} is not in canonical form: it was edited`, {
      where: folder,
      remedy: deleteIt(folder),
    });
  }
  const parts = new Map<string, string>();
  for (const { path, found: before, wanted } of places) {
    const name = nameOfPart(path);
    if (!parts.has(name)) parts.set(name, `${name} (cached ${brief(before)}, wanted ${brief(wanted)})`);
  }
  const listed = [...parts.values()];
  const rest = listed.length > LISTED ? `, and ${listed.length - LISTED} more` : '';
  return inputError(
    'ERR_CACHE_FOREIGN',
    `was built by another plan; different: ${listed.slice(0, LISTED).join(', ')}${rest}`,
    {
      where: folder,
      remedy: `Restore what it was built from, set cache.dir to another folder, or delete ${folder} to build it anew.`,
    },
  );
}

function parsePlan(text: string, folder: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch (cause) {
    throw inputError('ERR_CACHE_PLAN', `${PLAN_FILE} is not JSON`, { where: folder, remedy: deleteIt(folder), cause });
  }
}

function deleteIt(folder: string): string {
  return `Delete ${folder} and build it again.`;
}

/** Digests by their first characters, anything long by its beginning. */
function brief(value: Json | undefined): string {
  if (value === undefined) return 'nothing';
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  const limit = /^[0-9a-f]{64}$/.test(text) ? 12 : 60;
  return text.length > limit ? `${text.slice(0, limit)}…` : text;
}
