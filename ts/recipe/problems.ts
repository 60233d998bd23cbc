import type { z } from 'zod';
import type { ErrorCode } from '../errors.ts';
import { type JsonSchema, keysAt, schemasAt } from './json-schema.ts';
import { nearest } from './suggest.ts';

/** Longer values than this are not repeated in a message. */
const MAX_SHOWN = 40;

/** One thing that is wrong with a recipe. */
export interface Problem {
  readonly code: ErrorCode;
  /** Path of the value, or of the object around a key that should not be there. */
  readonly path: readonly PropertyKey[];
  /** The key that is unknown. */
  readonly key?: string;
  readonly what: string;
  readonly remedy: string;
}

/** Path as people write it: `teachers[0].weight`. */
export function formatPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, step) => {
    if (typeof step === 'number') return `${text}[${step}]`;
    return text === '' ? String(step) : `${text}.${String(step)}`;
  }, '');
}

/** What zod found, in words, with what may have been meant. */
export function explainIssue(schema: JsonSchema, issue: z.core.$ZodIssue): Problem[] {
  const { path } = issue;
  const remedy = describe(schema, path);
  const value = (what: string, help = remedy): Problem[] => [{ code: 'ERR_RECIPE_VALUE', path, what, remedy: help }];
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((key) => unknownKey(schema, path, key, issue.input));
    case 'invalid_key':
      return value(issue.issues.map(({ message }) => message).join(' and '), 'Give it another name.');
    case 'invalid_union':
      return explainUnion(schema, issue);
    case 'invalid_value':
      if (issue.input === undefined) return [missing(path, remedy)];
      return value(
        `must be ${issue.values.map((allowed) => JSON.stringify(allowed)).join(' or ')}`,
        meant(issue.input, issue.values, remedy),
      );
    case 'invalid_type':
      if (issue.input === undefined) return [missing(path, remedy)];
      return value(`must be ${article(issue.expected)}, but is ${shown(issue.input)}`);
    case 'too_small':
      return value(`must be ${issue.inclusive === false ? 'above' : 'at least'} ${bound(issue.origin, issue.minimum)}`);
    case 'too_big':
      return value(`must be ${issue.inclusive === false ? 'below' : 'at most'} ${bound(issue.origin, issue.maximum)}`);
    case 'not_multiple_of':
      return value(`must be a multiple of ${issue.divisor}`);
    default:
      return value(issue.message);
  }
}

/** Words of other trainers that mean nothing here, with the reason. */
const FOREIGN_WORDS: ReadonlyMap<string, string> = new Map([
  [
    'temperature',
    'A temperature cancels in the distance of two predictions: it would be a factor on the loss. Leave it out.',
  ],
  ['kl', 'The divergence of two Gaussians of one width is their squared distance: "mse".'],
]);

function unknownKey(schema: JsonSchema, path: readonly PropertyKey[], key: string, object: unknown): Problem {
  const foreign = FOREIGN_WORDS.get(key);
  if (foreign !== undefined) {
    return { code: 'ERR_RECIPE_UNKNOWN_KEY', path, key, what: `unknown key "${key}"`, remedy: foreign };
  }
  // The key itself may be one of another branch.
  const known = keysAt(schema, path, object).filter((other) => other !== key);
  const guess = nearest(key, known);
  const remedy = guess === undefined ? `Known here: ${known.join(', ')}.` : `Did you mean "${guess}"?`;
  return { code: 'ERR_RECIPE_UNKNOWN_KEY', path, key, what: `unknown key "${key}"`, remedy };
}

function missing(path: readonly PropertyKey[], remedy: string): Problem {
  const key = formatPath(path.slice(-1));
  return { code: 'ERR_RECIPE_MISSING_KEY', path, what: `"${key}" is missing`, remedy: `Add it. ${remedy}` };
}

/** The problems of the branch that was meant: the one that does not fail at its root, or else by unknown keys alone. */
function explainUnion(schema: JsonSchema, issue: z.core.$ZodIssueInvalidUnion): Problem[] {
  const { path } = issue;
  const remedy = describe(schema, path);
  if (issue.input === undefined) return [missing(path, remedy)];
  if (issue.discriminator !== undefined) return [explainDiscriminator(schema, issue, issue.discriminator)];
  const fitting = issue.errors.filter((branch) =>
    branch.every((inner) => inner.path.length > 0 || inner.code === 'unrecognized_keys'),
  );
  const known = fitting.filter((branch) => branch.every(({ path: inner }) => inner.length > 0));
  const likely = known.length > 0 ? known : fitting;
  const [branch] = likely;
  if (branch !== undefined && likely.length === 1) {
    return branch.flatMap((inner) => explainIssue(schema, { ...inner, path: [...path, ...inner.path] }));
  }
  const expected = issue.errors.flatMap((branchIssues) => branchIssues.map(expectation));
  const what = expected.length > 0 ? `must be ${[...new Set(expected)].join(' or ')}` : issue.message;
  return [{ code: 'ERR_RECIPE_VALUE', path, what, remedy }];
}

/** An object that is told apart by a key (`method.id`), whose value is none of the known ones; the path ends in the key. */
function explainDiscriminator(schema: JsonSchema, issue: z.core.$ZodIssueInvalidUnion, key: string): Problem {
  const { path } = issue;
  const object = path.slice(0, -1);
  const known = schemasAt(schema, object).flatMap((branch) => branch.properties?.[key]?.const ?? []);
  const given = (issue.input as Readonly<Record<string, unknown>> | undefined)?.[key];
  if (given === undefined) return missing(path, `One of ${list(known)}.`);
  const what = `unknown ${formatPath(object)} ${JSON.stringify(given)}`;
  const foreign = typeof given === 'string' ? FOREIGN_WORDS.get(given) : undefined;
  return { code: 'ERR_RECIPE_VALUE', path, what, remedy: foreign ?? meant(given, known, `Known: ${list(known)}.`) };
}

function expectation(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_value') return issue.values.map((allowed) => JSON.stringify(allowed)).join(' or ');
  if (issue.code === 'invalid_type') return article(issue.expected);
  return issue.message;
}

function meant(given: unknown, allowed: readonly unknown[], otherwise: string): string {
  const words = allowed.filter((word) => typeof word === 'string');
  const guess = typeof given === 'string' ? nearest(given, words) : undefined;
  return guess === undefined ? otherwise : `Did you mean "${guess}"?`;
}

function describe(schema: JsonSchema, path: readonly PropertyKey[]): string {
  const description = schemasAt(schema, path).find((node) => node.description !== undefined)?.description;
  return description ?? 'See `potstill recipe schema`.';
}

function list(values: readonly unknown[]): string {
  return values.map((value) => JSON.stringify(value)).join(', ');
}

function bound(origin: string, value: number | bigint): string {
  if (origin === 'string') return `${value} characters long`;
  return origin === 'array' ? `${value} long` : String(value);
}

function article(type: string): string {
  if (type === 'int') return 'a whole number';
  if (type === 'null') return 'null';
  const word = type === 'tuple' || type === 'array' ? 'list' : type;
  return `${/^[aeiou]/.test(word) ? 'an' : 'a'} ${word}`;
}

/** A wrong value for a message: short ones as they are, others by their type. */
function shown(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'an object';
  const text = JSON.stringify(value) ?? typeof value;
  return text.length > MAX_SHOWN ? article(typeof value) : text;
}
