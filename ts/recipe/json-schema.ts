import { z } from 'zod';
import { recipeSchema } from './schema.ts';

/** A JSON Schema node, as far as potstill walks it. */
export interface JsonSchema {
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly items?: JsonSchema | false;
  readonly prefixItems?: readonly JsonSchema[];
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
}

/** The JSON Schema (draft 2020-12) of recipes as they are written, for editors. */
export function recipeJsonSchema(): JsonSchema {
  return {
    ...z.toJSONSchema(recipeSchema, { io: 'input', target: 'draft-2020-12' }),
    $id: 'https://potstill.dev/schema/recipe.schema.json',
    title: 'potstill recipe',
  } as JsonSchema;
}

/** All schemas that a value at this path may have to satisfy: one, or the branches of a union. */
export function schemasAt(root: JsonSchema, path: readonly PropertyKey[]): JsonSchema[] {
  return path.reduce<JsonSchema[]>(
    (nodes, step) => nodes.flatMap((node) => branches(childAt(node, step))),
    branches(root),
  );
}

/**
 * Keys that an object at this path may have.
 *
 * @param value the object: of a union's branches, those count that it belongs to by the words that tell them apart (`id`)
 */
export function keysAt(root: JsonSchema, path: readonly PropertyKey[], value?: unknown): string[] {
  const all = schemasAt(root, path);
  const own = all.filter((node) => isOfBranch(node, value));
  const keysOf = (nodes: readonly JsonSchema[]): string[] => [
    ...new Set(nodes.flatMap(({ properties }) => Object.keys(properties ?? {}))),
  ];
  const keys = keysOf(own);
  return keys.length > 0 ? keys : keysOf(all);
}

/** Whether an object has the fixed words of a branch. */
function isOfBranch({ properties = {} }: JsonSchema, value: unknown): boolean {
  const has = (typeof value === 'object' && value !== null ? value : {}) as Readonly<Record<string, unknown>>;
  return Object.entries(properties).every(
    ([key, node]) => node.const === undefined || has[key] === undefined || has[key] === node.const,
  );
}

function branches(node: JsonSchema | undefined): JsonSchema[] {
  if (node === undefined) return [];
  return [node, ...[...(node.anyOf ?? []), ...(node.oneOf ?? [])].flatMap(branches)];
}

function childAt(node: JsonSchema, step: PropertyKey): JsonSchema | undefined {
  if (typeof step === 'string') {
    return node.properties !== undefined && Object.hasOwn(node.properties, step) ? node.properties[step] : undefined;
  }
  if (typeof step === 'symbol') return undefined;
  const { items } = node;
  return node.prefixItems?.[step] ?? (items === false ? undefined : items);
}
